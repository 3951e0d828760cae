"""Seeded connection events for the job that all contenders do (`oracle.py`): the same octets for each of them.

Senders are drawn uniformly, by Zipf's law (exponent 1.1), or one of them has half of the traffic. A two-hundredth of the
events are bursts, one sender after the other, and a fiftieth are ordinary events of those who burst, so that they have a
past to break with. Some events are out of order (up to 5 s old) and some late (1 to 10 minutes). A tenth of the senders,
or all, are IPv6 /64s that use many addresses. An hour of event time across midnight UTC. About 150 octets an event, of
which session and helo are random: a constant tail would compress better than real mail does. On request each sender comes
once before all this: then as many are known as there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from benchmarks.harness.workload import BEHIND_IPV4, CHUNK_EVENTS, FIRST_IPV4, IPV6_PREFIX, NAMES, TAIL, vary
from topics.columns.keys import IPV4_TAG
from topics.columns.scan import ACCEPTED, REJECTED
from topics.columns.write import LINE_ROOM, Drafts, texts, write_lines

SHAPES = ("uniform", "zipf", "hot")
START_MS = 1_750_030_200_000  # 2025-06-15 23:30 UTC
SPAN_MS = 3_600_000
BURST_SHARE, HISTORY_SHARE = 0.005, 0.02
BURST_MESSAGES = (2, 9)
EVENTS_A_BURST = 12
DISORDER_SHARE, DISORDER_MS = 0.02, 5_000
LATE_SHARE, LATE_MS = 0.005, (60_000, 600_000)
ZIPF_EXPONENT = 1.1
HOT_SHARE = 0.5


@dataclass(frozen=True)
class Traffic:
    """``events`` of ``keys`` senders; ``chunk``: events that go to the producer at a time, a quarter of it a batch;
    ``all_first``: the first ``keys`` of the events are of another sender each."""

    events: int
    keys: int
    shape: str = "uniform"
    ipv6_share: float = 0.1
    chunk: int = CHUNK_EVENTS
    seed: int = 1
    all_first: bool = False

    @cached_property
    def senders(self) -> npt.NDArray[np.uint64]:
        """The keys, those who burst first, the hot one last."""
        draw = np.random.default_rng(self.seed)
        addresses = draw.choice(BEHIND_IPV4 - FIRST_IPV4, self.keys, replace=False) + FIRST_IPV4
        keys = IPV4_TAG | addresses.astype(np.uint64)
        networks = draw.random(self.keys) < self.ipv6_share
        keys[networks] = IPV6_PREFIX | addresses[networks].astype(np.uint64)
        return keys

    @cached_property
    def _cumulated(self) -> npt.NDArray[np.float64]:
        """Zipf's distribution by rank, cumulated."""
        weights = np.cumsum(np.arange(1, self.keys + 1, dtype=np.float64) ** -ZIPF_EXPONENT)
        cumulated: npt.NDArray[np.float64] = weights / weights[-1]
        return cumulated

    @property
    def bursts(self) -> int:
        """How many senders burst."""
        return min(self.keys, max(2, int(self.events * BURST_SHARE) // EVENTS_A_BURST))

    def chunks(self) -> Iterator[bytes]:
        """The events as whole lines, `chunk` at a time."""
        chosen = texts(NAMES, TAIL)
        out = np.empty(self.chunk * (LINE_ROOM + len(chosen.names) + len(chosen.tail)), np.uint8)
        for first in range(0, self.events, self.chunk):
            draw = np.random.default_rng((self.seed, first))
            drafts = self._drafts(first, min(self.chunk, self.events - first), draw)
            _, size = write_lines(drafts, 0, chosen, out)
            yield vary(out[:size], draw)

    def _drafts(self, first: int, count: int, draw: np.random.Generator) -> Drafts:
        place = first + np.arange(count)
        lot = draw.random(count)
        if self.all_first:
            lot[place < self.keys] = 1.0
        burst = lot < BURST_SHARE
        history = ~burst & (lot < BURST_SHARE + HISTORY_SHARE)
        number = np.where(burst, place * self.bursts // self.events, self._drawn(count, draw))
        number = np.where(history, draw.integers(0, self.bursts, count), number)
        if self.all_first:
            number = np.where(place < self.keys, place, number)
        return Drafts(
            START_MS + place * SPAN_MS // self.events - _behind_ms(count, draw),
            self.senders[number],
            draw.integers(0, 1 << 63, count).astype(np.uint64),
            np.where(burst, draw.integers(*BURST_MESSAGES, count), 1 + (draw.random(count) < 0.05)).astype(np.int32),
            draw.choice(np.array([ACCEPTED, REJECTED], np.uint8), count, p=(0.95, 0.05)),
            draw.integers(0, len(NAMES), count).astype(np.uint8),
        )

    def _drawn(self, count: int, draw: np.random.Generator) -> npt.NDArray[np.int64]:
        """Numbers of senders, as the shape says."""
        if self.shape == "zipf":
            return np.searchsorted(self._cumulated, draw.random(count))
        number = draw.integers(0, self.keys, count)
        return np.where(draw.random(count) < HOT_SHARE, self.keys - 1, number) if self.shape == "hot" else number


def _behind_ms(count: int, draw: np.random.Generator) -> npt.NDArray[np.int64]:
    """How far each event's time lies behind its place: mostly not at all."""
    lot = draw.random(count)
    disordered = np.where(lot < DISORDER_SHARE, draw.integers(0, DISORDER_MS, count), 0)
    return np.where(lot > 1 - LATE_SHARE, draw.integers(*LATE_MS, count), disordered)
