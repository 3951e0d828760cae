"""Seeded connection events as NDJSON: the same text, octet for octet, for every contender and for the replay.

Senders are drawn uniformly, which is the hard case for a table (hardly any event finds its row in the processor's cache,
and every row has changed at the next checkpoint). One event in 200 belongs to a burst: one sender after the other offers
some 60 messages within minutes, which brings throttles of all terms, extensions and releases. A tenth of the senders are
IPv6 /64 networks that use many addresses. Event time runs over six hours across midnight UTC, so days close. About 150
octets an event, of which session and helo are random: a constant tail would compress better than real mail does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from topics.columns.keys import IPV4_TAG
from topics.columns.scan import ACCEPTED, DEFERRED, REJECTED
from topics.columns.write import LINE_ROOM, Drafts, texts, write_lines

START_MS = 1_750_021_200_000  # 2025-06-15 21:00 UTC
SPAN_MS = 6 * 3_600_000
CHUNK_EVENTS = 4096  # what the producer gets at a time: about a thousand events a batch on four partitions
BURST_SHARE = 0.005
BURST_MESSAGES = (2, 9)
EVENTS_A_BURST = 12
IPV6_SHARE = 0.1
FIRST_IPV4, BEHIND_IPV4 = 0x01000000, 0xC6000000  # below 198.0.0.0
IPV6_PREFIX = np.uint64(0x20010DB8_00000000)
NAMES = [f"mx{number}.mail.example.net" for number in range(1, 5)]
TAIL = ',"session":"0000000000000000","helo":"mail000.example.org","tls":"TLSv1.3"'
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def _places(mark: str) -> npt.NDArray[np.int64]:
    """Where the zeros of ``mark`` stand, counted back from a line's end."""
    line = TAIL + "}\n"
    first = line.index(mark)
    return np.array([first + i - len(line) for i, letter in enumerate(mark) if letter == "0"])


RANDOM_PLACES = np.concatenate([_places("0000000000000000"), _places("000.")])


class Chunked(Protocol):
    """Events that come as whole lines, many at a time, and the same again each time that they are asked for."""

    def chunks(self) -> Iterator[bytes]:
        """All of them."""
        ...


@dataclass(frozen=True)
class Workload:
    """``events`` of ``keys`` senders from ``start_ms`` on; ``seed`` decides everything else."""

    events: int
    keys: int
    seed: int = 1
    start_ms: int = START_MS

    @cached_property
    def senders(self) -> npt.NDArray[np.uint64]:
        """The keys, those who burst first."""
        draw = np.random.default_rng(self.seed)
        addresses = draw.choice(BEHIND_IPV4 - FIRST_IPV4, self.keys, replace=False) + FIRST_IPV4
        keys = IPV4_TAG | addresses.astype(np.uint64)
        networks = draw.random(self.keys) < IPV6_SHARE
        keys[networks] = IPV6_PREFIX | addresses[networks].astype(np.uint64)
        return keys

    @property
    def bursts(self) -> int:
        """How many senders burst."""
        return min(self.keys, max(2, int(self.events * BURST_SHARE) // EVENTS_A_BURST))

    def chunks(self) -> Iterator[bytes]:
        """The events as whole lines, `CHUNK_EVENTS` at a time."""
        chosen = texts(NAMES, TAIL)
        out = np.empty(CHUNK_EVENTS * (LINE_ROOM + len(chosen.names) + len(chosen.tail)), np.uint8)
        for first in range(0, self.events, CHUNK_EVENTS):
            draw = np.random.default_rng((self.seed, first))
            drafts = self._drafts(first, min(CHUNK_EVENTS, self.events - first), draw)
            _, size = write_lines(drafts, 0, chosen, out)
            yield vary(out[:size], draw)

    def _drafts(self, first: int, count: int, draw: np.random.Generator) -> Drafts:
        place = first + np.arange(count)
        burst = draw.random(count) < BURST_SHARE
        bursting = place * self.bursts // self.events
        number = np.where(burst, bursting, draw.integers(0, self.keys, count))
        messages = np.where(burst, draw.integers(*BURST_MESSAGES, count), 1 + (draw.random(count) < 0.05))
        outcome = draw.choice(np.array([ACCEPTED, REJECTED, DEFERRED], np.uint8), count, p=(0.95, 0.04, 0.01))
        return Drafts(
            self.start_ms + place * SPAN_MS // self.events,
            self.senders[number],
            draw.integers(0, 1 << 63, count).astype(np.uint64),
            messages.astype(np.int32),
            outcome,
            draw.integers(0, len(NAMES), count).astype(np.uint8),
        )


def vary(lines: npt.NDArray[np.uint8], draw: np.random.Generator) -> bytes:
    """The lines, their session and helo made different from one another."""
    behind = np.flatnonzero(lines == 10) + 1
    digits = _HEX[draw.integers(0, 16, (len(behind), len(RANDOM_PLACES)), np.uint8)]
    lines[behind[:, None] + RANDOM_PLACES] = digits
    return lines.tobytes()
