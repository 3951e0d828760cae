"""Seeded mail for benchmarks: connection events as JSON lines (`Traffic`), and busy relays as columns (`relays`).

`Traffic` gives every contender and the replay the same bytes. Its senders are drawn uniformly, by Zipf's law, or one of
them has half of the events. Uniform is the hard case for a table: hardly any event finds its row in the CPU's cache, and
every row has changed at the next checkpoint. One event in 200 belongs to a burst: one sender after the other offers about
60 messages within minutes. One in 50 is an ordinary event of a sender that bursts, so that it has a past. A tenth of the
senders are IPv6 /64 networks with many addresses. A line has about 150 bytes; session and helo are random, because a
constant tail would compress better than real mail does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from topics.columns.keys import IPV4_TAG
from topics.columns.scan import ACCEPTED, DEFERRED, READY, REJECTED, EventColumns, empty_columns
from topics.columns.write import LINE_ROOM, Drafts, texts, write_lines

Integers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

SHAPES = ("uniform", "zipf", "hot")
START_MS, SPAN_MS = 1_750_030_200_000, 3_600_000  # 2025-06-15 23:30 UTC: the hour crosses midnight
EVENING_START_MS, EVENING_SPAN_MS = 1_750_021_200_000, 6 * 3_600_000  # 2025-06-15 21:00 UTC
CHUNK_EVENTS = 4096  # sent at a time: about a thousand events per batch on four partitions
BURST_SHARE, HISTORY_SHARE = 0.005, 0.02
BURST_MESSAGES = (2, 9)
EVENTS_A_BURST = 12
DISORDER_SHARE, DISORDER_MS = 0.02, 5_000
LATE_SHARE, LATE_MS = 0.005, (60_000, 600_000)
OUTCOMES = np.array([ACCEPTED, REJECTED, DEFERRED], np.uint8)
OUTCOME_SHARES = (0.95, 0.04, 0.01)
ZIPF_EXPONENT = 1.1
HOT_SHARE = 0.5
FIRST_IPV4, END_IPV4 = 0x01000000, 0xC6000000  # below 198.0.0.0
IPV6_PREFIX = np.uint64(0x20010DB8_00000000)
MTA_NAMES = [f"mx{number}.mail.example.net" for number in range(1, 5)]
TAIL = ',"session":"0000000000000000","helo":"mail000.example.org","tls":"TLSv1.3"'
HEX_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)


def _zeros_of(text: str) -> Integers:
    """Return where the zeros of ``text``, a part of a line's tail, are: indices from the line's end."""
    line = TAIL + "}\n"
    first = line.index(text)
    return np.array([first + i - len(line) for i, letter in enumerate(text) if letter == "0"])


RANDOM_INDICES = np.concatenate([_zeros_of("0000000000000000"), _zeros_of("000.")])


class LineWriter:
    """Writes at most ``most`` events at a time as JSON lines with a random session and helo."""

    def __init__(self, most: int) -> None:
        self._texts = texts(MTA_NAMES, TAIL)
        self._out = np.empty(most * (LINE_ROOM + len(self._texts.names) + len(self._texts.tail)), np.uint8)

    def write(self, drafts: Drafts, draw: np.random.Generator) -> bytes:
        """Return the lines."""
        _, size = write_lines(drafts, 0, self._texts, self._out)
        lines = self._out[:size]
        ends = np.flatnonzero(lines == ord("\n")) + 1
        lines[ends[:, None] + RANDOM_INDICES] = HEX_DIGITS[
            draw.integers(0, 16, (len(ends), len(RANDOM_INDICES)), np.uint8)
        ]
        return lines.tobytes()


@dataclass(frozen=True)
class Traffic:
    """Events of senders that are drawn at random; the seed decides everything that the other fields leave open."""

    events: int
    keys: int  # senders
    shape: str = "uniform"
    ipv6_share: float = 0.1  # of the senders
    chunk: int = CHUNK_EVENTS  # events that the producer gets at a time; a quarter of it is a batch
    seed: int = 1
    all_first: bool = False  # the first events are one of each sender
    start_ms: int = START_MS
    span_ms: int = SPAN_MS
    ordered: bool = False  # else 2 % of the events are up to 5 s out of order and 0.5 % are 1 to 10 minutes late

    @cached_property
    def senders(self) -> Keys:
        """Return the keys: senders that burst come first, the hot one last."""
        draw = np.random.default_rng(self.seed)
        addresses = draw.choice(END_IPV4 - FIRST_IPV4, self.keys, replace=False) + FIRST_IPV4
        keys = IPV4_TAG | addresses.astype(np.uint64)
        networks = draw.random(self.keys) < self.ipv6_share
        keys[networks] = IPV6_PREFIX | addresses[networks].astype(np.uint64)
        return keys

    @cached_property
    def _zipf_cumulated(self) -> npt.NDArray[np.float64]:
        weights = np.cumsum(np.arange(1, self.keys + 1, dtype=np.float64) ** -ZIPF_EXPONENT)
        cumulated: npt.NDArray[np.float64] = weights / weights[-1]
        return cumulated

    @property
    def bursts(self) -> int:
        """Return the number of senders that burst."""
        return min(self.keys, max(2, int(self.events * BURST_SHARE) // EVENTS_A_BURST))

    def chunks(self) -> Iterator[bytes]:
        """Return the events as whole lines, `chunk` at a time."""
        writer = LineWriter(self.chunk)
        for first in range(0, self.events, self.chunk):
            draw = np.random.default_rng((self.seed, first))
            yield writer.write(self._drafts(first, min(self.chunk, self.events - first), draw), draw)

    def _drafts(self, first: int, count: int, draw: np.random.Generator) -> Drafts:
        number = first + np.arange(count)
        lot = draw.random(count)
        if self.all_first:
            lot[number < self.keys] = 1.0
        is_burst = lot < BURST_SHARE
        is_history = ~is_burst & (lot < BURST_SHARE + HISTORY_SHARE)
        sender = np.where(is_burst, number * self.bursts // self.events, self._draw_senders(count, draw))
        sender = np.where(is_history, draw.integers(0, self.bursts, count), sender)
        if self.all_first:
            sender = np.where(number < self.keys, number, sender)
        delays_ms = np.zeros(count, np.int64) if self.ordered else _delays_ms(count, draw)
        return Drafts(
            self.start_ms + number * self.span_ms // self.events - delays_ms,
            self.senders[sender],
            draw.integers(0, 1 << 63, count).astype(np.uint64),
            np.where(is_burst, draw.integers(*BURST_MESSAGES, count), 1 + (draw.random(count) < 0.05)).astype(np.int32),
            draw.choice(OUTCOMES, count, p=OUTCOME_SHARES),
            draw.integers(0, len(MTA_NAMES), count).astype(np.uint8),
        )

    def _draw_senders(self, count: int, draw: np.random.Generator) -> Integers:
        """Return indices of senders, distributed as the shape demands."""
        if self.shape == "zipf":
            return np.searchsorted(self._zipf_cumulated, draw.random(count))
        number = draw.integers(0, self.keys, count)
        return np.where(draw.random(count) < HOT_SHARE, self.keys - 1, number) if self.shape == "hot" else number


def _delays_ms(count: int, draw: np.random.Generator) -> Integers:
    """Return by how much each event comes after its time: mostly 0."""
    lot = draw.random(count)
    disordered = np.where(lot < DISORDER_SHARE, draw.integers(0, DISORDER_MS, count), 0)
    return np.where(lot > 1 - LATE_SHARE, draw.integers(*LATE_MS, count), disordered)


def evening(events: int, keys: int, seed: int = 1, start_ms: int = EVENING_START_MS) -> Traffic:
    """Return six hours of ordered traffic across midnight: throttles of all terms, extensions and releases occur."""
    return Traffic(events, keys, seed=seed, start_ms=start_ms, span_ms=EVENING_SPAN_MS, ordered=True)


def columns_of(keys: Keys, ts_ms: Integers, first_offset: int = 0) -> EventColumns:
    """Return one accepted message of each key, with consecutive offsets."""
    columns = empty_columns(len(keys))
    columns.key[:], columns.offset[:] = keys, first_offset + np.arange(len(keys))
    columns.ts_ms[:] = columns.record_ms[:] = ts_ms
    columns.messages[:], columns.outcome[:], columns.status[:] = 1, ACCEPTED, READY
    return columns


DAY_MS = 86_400_000
TICK_MS = 30_000
TICKS = DAY_MS // TICK_MS
MONDAY_MS = 1_767_571_200_000
LEAST_PER_HOUR, MOST_PER_HOUR = 500, 20_000
PARETO_INDEX = 1.5  # one mail-out in thirty is ten times the smallest


class Relays(NamedTuple):
    """Busy relays whose mail is all regular: seasonal, bursty, heavy-tailed, with mail-outs.

    Each has a mean rate, drawn log-evenly; working hours of its own and a quieter weekend; log-normal hours, and minutes
    within them; one or two mail-outs a week of a Pareto-distributed size, within 10 to 90 minutes. Counts are Poisson.
    """

    messages: Integers  # [relay, half minute]
    means: npt.NDArray[np.float64]  # messages per hour, average of a weekday


def relays(seed: int, count: int, days: int) -> Relays:
    """Return ``count`` relays over so many days, from a Monday on."""
    rng = np.random.default_rng(seed)
    means = np.exp(rng.uniform(np.log(LEAST_PER_HOUR), np.log(MOST_PER_HOUR), count))
    messages = [
        rng.poisson(season(rng, days, 1.0) * each * 24 / TICKS + _mail_outs(rng, days, each)) for each in means.tolist()
    ]
    return Relays(np.array(messages, np.int64), means)


def season(rng: np.random.Generator, days: int, roughness: float) -> npt.NDArray[np.float64]:
    """Return the share of the mean rate by tick; 0 < ``roughness`` <= 1 scales all variation but that of weekends."""
    hour = np.arange(days * TICKS) * 24.0 / TICKS
    shape = 1.0 + roughness * rng.uniform(0.3, 0.9) * np.cos((hour - rng.uniform(10, 16)) * np.pi / 12)
    weekend = np.where(hour // 24 % 7 >= 5, rng.uniform(0.2, 0.8), 1.0)
    hours = np.repeat(rng.lognormal(0, roughness * rng.uniform(0.2, 0.5), days * 24), TICKS // 24)
    minutes = np.repeat(rng.lognormal(0, roughness * 0.3, days * TICKS // 2), 2)
    share: npt.NDArray[np.float64] = shape * weekend * hours * minutes
    return share


def _mail_outs(rng: np.random.Generator, days: int, mean: float) -> npt.NDArray[np.float64]:
    """Return the messages of mail-outs by tick; each has at least an hour's mean."""
    ticks = np.zeros(days * TICKS)
    for _ in range(rng.poisson(days * rng.uniform(1, 2) / 7)):
        start = rng.integers(0, len(ticks))
        span = rng.integers(10, 90) * 2
        ticks[start : start + span] += mean * (1 + rng.pareto(PARETO_INDEX)) / span
    return ticks


def relay_columns(found: Relays) -> EventColumns:
    """Return the relays' events in order of time, one per relay and tick with messages."""
    tick, relay = np.nonzero(found.messages.T)
    keys = np.uint64(IPV4_TAG + 0x0A000000) + relay.astype(np.uint64) * np.uint64(65_536)
    columns = columns_of(keys, MONDAY_MS + tick * TICK_MS + relay * 100)
    columns.messages[:] = found.messages[relay, tick]
    return columns
