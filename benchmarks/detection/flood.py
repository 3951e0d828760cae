"""A flood of addresses against a bounded table: `make flood`.

One question: does memory stay flat, do established senders keep their rows, and is the flooding prefix throttled? One
partition at the default capacity, in the pure engine, on one core. First everyday mail: regulars over six days, and newcomers
until the table is nearly full. Then the floods, fifty million addresses each, while the regulars continue: /64s of one IPv6
/32, /64s of several, IPv4 addresses of a /8, each drawn at random; and /64s from everywhere that come twice, the worst for a
table, because no prefix is responsible. Memory is compared before and after each. Takes three minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.harness import command
from benchmarks.harness.command import Report, log_progress, new_parser, parse
from benchmarks.harness.results import FOLDER, table
from benchmarks.harness.traffic import columns_of
from engine.detector import eviction as eviction_module
from engine.detector.layout import BYTES_A_ROW, table_bytes
from engine.detector.throttle import Policy
from engine.detector.verdict import THROTTLE
from engine.pipeline.precompile import precompile
from engine.state import partition as partition_module
from engine.state.partition import Partition
from topics.networks import network_text

START_MS = 1_790_000_000_000
DAY_MS = 86_400_000
BLOCK = 1 << 16
REGULARS_SHARE = 16  # of a flood's events, one in so many is a regular's
IPV4 = 0xFFFFFFFF_00000000
GROWTH_MOST = 0.05
SMALL = {"rows": 1 << 14, "regulars": 4_000, "events": 200_000, "rate": 2_000}
HEAD = (
    "flood | events | M events a CPU s | RSS before, MB | after, MB | regulars kept | evicted | decisions | pause, ms"
)


class Source(NamedTuple):
    """Keys that a flood draws from."""

    first: int
    bits: int  # random ones below the first key


TWICE = "IPv6 /64s from everywhere, each twice"  # the worst case: each gets a row, and no prefix is responsible
FLOODS: dict[str, tuple[Source, ...]] = {
    "IPv6 /64s of one /32": (Source(0x2A0BF00D_00000000, 32),),
    "IPv6 /64s of eight /32s": tuple(Source(0x2A0BF100_00000000 + (i << 40), 32) for i in range(8)),
    "IPv4 addresses of a /8": (Source(IPV4 + (45 << 24), 24),),
    TWICE: (Source(0x20000000_00000000, 61),),
}


@dataclass(slots=True)
class Answer:
    """The outcome of one flood."""

    flood: str
    events: int
    rss_before: int  # bytes
    regulars: int
    rss_after: int = 0
    seconds: float = 0.0  # CPU time, so other load on the machine changes little
    regulars_kept: int = 0
    evicted: int = 0
    untracked: int = 0
    prefix_decisions: Counter[str] = field(default_factory=Counter)
    outside: int = 0  # decisions on a prefix that doesn't flood
    pauses_s: list[float] = field(default_factory=list)  # of each sweep, CPU time

    @property
    def growth(self) -> float:
        """Return the growth of resident memory."""
        return self.rss_after / self.rss_before - 1.0

    @property
    def pause_s(self) -> float:
        """Return the median sweep, 0 without one."""
        return median(self.pauses_s) if self.pauses_s else 0.0

    def complaints(self) -> Iterator[str]:
        """Return what is wrong with it."""
        if abs(self.growth) > GROWTH_MOST:
            yield f"{self.flood}: memory grew by {self.growth:.1%}"
        if self.regulars_kept != self.regulars:
            yield f"{self.flood}: {self.regulars - self.regulars_kept} established senders lost their rows"
        if bool(self.prefix_decisions) == (self.flood == TWICE) or self.outside:
            yield f"{self.flood}: {self.prefix_decisions.total()} prefixes throttled, {self.outside} of them wrongly"

    def figures(self) -> dict[str, Any]:
        """Return the figures that are kept."""
        figures = asdict(self)
        pauses_s, seconds = figures.pop("pauses_s"), figures.pop("seconds")
        rates = {"growth": round(self.growth, 4), "events_per_s": round(self.events / seconds)}
        figures["prefix_decisions"] = dict(self.prefix_decisions)  # asdict breaks a Counter
        return figures | rates | {"sweeps": len(pauses_s), "sweep_pause_s": round(self.pause_s, 4)}

    def row(self) -> list[str]:
        """Return its row of the table."""
        decisions = ", ".join(f"{count} for a {length}" for length, count in sorted(self.prefix_decisions.items()))
        memory = [f"{size / 1e6:.1f}" for size in (self.rss_before, self.rss_after)]
        kept = f"{self.regulars_kept:,} of {self.regulars:,}"
        rate, pause = f"{self.events / self.seconds / 1e6:.2f}", f"{1000 * self.pause_s:.0f}"
        return [self.flood, f"{self.events:,}", rate, *memory, kept, f"{self.evicted:,}", decisions, pause]


class FloodedSite:
    """One partition with so many rows and established senders."""

    def __init__(self, rows: int, regulars: int, seed: int) -> None:
        self.partition = Partition(Policy(1.0, DAY_MS, 0, 1), rows)
        self.random = np.random.default_rng(seed)
        self.regulars = np.sort(IPV4 + self.random.choice(1 << 30, regulars, replace=False).astype(np.uint64))
        self.pauses_s: list[float] = []
        self._now_ms = START_MS
        self._offset = 0

    def send(self, keys: npt.NDArray[np.uint64], span_ms: float) -> npt.NDArray[Any]:
        """Apply one message of each key, at an even pace; return the verdicts."""
        count = len(keys)
        times_ms = self._now_ms + np.linspace(0, span_ms, count, endpoint=False).astype(np.int64)
        columns = columns_of(keys, times_ms, self._offset)
        self._offset, self._now_ms = self._offset + count, self._now_ms + int(span_ms)
        return self.partition.apply(columns, 0, count)

    def send_everyday_mail(self, days: int) -> None:
        """Apply one message per regular and day; on the last day newcomers fill the table up to the admission filter."""
        for _ in range(days):
            for first in range(0, len(self.regulars), BLOCK):
                chosen = self.regulars[first : first + BLOCK]
                self.send(chosen, DAY_MS * len(chosen) / len(self.regulars))
        rows = len(self.partition.state.rows)
        while self.partition.keys < rows - rows // 16:
            room = min(BLOCK, rows - rows // 16 - self.partition.keys)
            self.send(IPV4 + (1 << 31) + self.random.integers(0, 1 << 30, room, np.uint64), 60_000.0)

    def kept(self) -> int:
        """Return how many regulars still have their rows with their history."""
        kept = 0
        for first in range(0, self.partition.keys, BLOCK):
            rows = self.partition.state.rows[first : min(first + BLOCK, self.partition.keys)]
            keys = rows["key"][rows["active_days"] > 3]
            index = np.searchsorted(self.regulars, keys) % len(self.regulars)
            kept += int((self.regulars[index] == keys).sum())
        return kept

    def flood(self, name: str, events: int, rate: int) -> Answer:
        """Apply so many events at ``rate`` per second of event time, one in sixteen of them a regular's."""
        site, process = self.partition.state.site, psutil.Process()
        before = {count: int(site[count][0]) for count in ("evicted", "untracked")}
        answer = Answer(name, events, process.memory_info().rss, len(self.regulars))
        self.pauses_s = answer.pauses_s
        for first in range(0, events, BLOCK):
            keys = self._draw(name, min(BLOCK, events - first))
            begun_s = time.process_time()
            verdicts = self.send(keys, 1000.0 * len(keys) / rate)
            answer.seconds += time.process_time() - begun_s
            _add_verdicts(answer, verdicts)
        answer.rss_after, answer.regulars_kept = process.memory_info().rss, self.kept()
        answer.evicted, answer.untracked = (int(site[count][0]) - value for count, value in before.items())
        return answer

    def _draw(self, name: str, count: int) -> npt.NDArray[np.uint64]:
        sources = FLOODS[name]
        chosen = self.random.integers(0, len(sources), count)
        keys = np.array([source.first for source in sources], np.uint64)[chosen]
        keys += self.random.integers(0, 1 << sources[0].bits, count, np.uint64)
        if name == TWICE:
            keys[1::2] = keys[: count - 1 : 2]
        regular = np.arange(REGULARS_SHARE - 1, count, REGULARS_SHARE)
        keys[regular] = self.random.choice(self.regulars, len(regular))
        return keys

    def timed_sweep(self, state: Any) -> None:
        """Run the engine's own sweep and record its CPU time."""
        begun_s = time.process_time()
        eviction_module.sweep(state)
        self.pauses_s.append(time.process_time() - begun_s)


def _add_verdicts(answer: Answer, verdicts: npt.NDArray[Any]) -> None:
    """Count the throttles of prefixes."""
    for verdict in verdicts[(verdicts["kind"] == THROTTLE) & (verdicts["prefix"] > 0)]:
        key, length = int(verdict["key"]), int(verdict["prefix"])
        sources = FLOODS[answer.flood]
        answer.prefix_decisions[f"/{length}"] += 1
        answer.outside += not any(source.first <= key < source.first + (1 << source.bits) for source in sources)
        answer.outside += network_text(key, length).endswith("/0")


def measure(given: argparse.Namespace, _folder: Path) -> Report:
    """Apply everyday mail, then each flood; compare the announced memory with the memory in use."""
    precompile()
    site = FloodedSite(given.rows, given.regulars, 1)
    site.send(site.regulars[:1], 1.0)
    empty_rss, announced = psutil.Process().memory_info().rss, table_bytes(given.rows)
    answers = []
    with patch.object(partition_module, "sweep", site.timed_sweep):
        site.send_everyday_mail(6)
        for name in FLOODS:
            answers.append(site.flood(name, given.events, given.rate))
            log_progress(f"{name}: {answers[-1].figures()}")
    full_rss = answers[-1].rss_after
    memory = {"slots": given.rows, "bytes_a_slot": BYTES_A_ROW, "announced": announced}
    memory |= {"rss_empty": empty_rss, "rss_full": full_rss}
    wrong = [complaint for answer in answers for complaint in answer.complaints()]
    floods = [answer.figures() for answer in answers]
    used = (
        f"announced: {announced / 1e6:.1f} MB for {given.rows:,} slots; in use: {(full_rss - empty_rss) / 1e6:.1f} MB\n"
    )
    return Report(
        {"answer": "wrong" if wrong else "right", **memory, "floods": floods},
        show=lambda _: [used, *table(HEAD, [answer.row() for answer in answers])],
        wrong=wrong,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = new_parser(__doc__, FOLDER / "flood.ndjson")
    parser.add_argument("--rows", type=int, default=1 << 20, help="the table's capacity")
    parser.add_argument("--regulars", type=int, default=300_000, help="established senders")
    parser.add_argument("--events", type=int, default=50_000_000, help="of each flood")
    parser.add_argument("--rate", type=int, default=20_000, help="events per second of event time")
    return command.run(measure, parse(parser, SMALL, arguments))


if __name__ == "__main__":
    sys.exit(main())
