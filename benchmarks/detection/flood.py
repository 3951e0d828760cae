"""A flood of addresses against a table that has an end: `python benchmarks/detection/flood.py` or `make flood`.

One question: does memory stay flat, do established senders keep their rows, and is the prefix that floods named? One
partition at the default capacity, through the pure engine, on one core. First everyday life: regulars over six days, and
newcomers until the table is nearly full. Then the floods, fifty million addresses each, while the regulars go on: /64s of
one IPv6 /32, /64s of several, IPv4 addresses of a /8, each drawn at random; and /64s from everywhere that come twice, the
worst for a table, with no prefix to blame. Memory is compared before and after each. Progress goes to standard error, a
table to standard output, whose last line is one JSON object. Exit status: 0, 1 for a wrong answer. Three minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import orjson
import psutil

from benchmarks.harness import machine
from benchmarks.harness.results import FOLDER, keep
from engine.detector import eviction as eviction_module
from engine.detector.layout import BYTES_A_ROW, BYTES_BESIDES, table_bytes
from engine.detector.throttle import Policy
from engine.detector.verdict import THROTTLE
from engine.pipeline.precompile import warm
from engine.state import partition as partition_module
from engine.state.partition import Partition
from topics.columns.scan import ACCEPTED, READY, EventColumns, empty_columns
from topics.networks import network_text

KEPT = FOLDER / "flood.ndjson"
START_MS = 1_790_000_000_000
DAY_MS = 86_400_000
BLOCK = 1 << 16
REGULARS_SHARE = 16  # of a flood's events, one in so many is a regular's
IPV4 = 0xFFFFFFFF_00000000
FLOODS: dict[str, tuple[tuple[int, int], ...]] = {  # (first key, random bits below it)
    "IPv6 /64s of one /32": ((0x2A0BF00D_00000000, 32),),
    "IPv6 /64s of eight /32s": tuple((0x2A0BF100_00000000 + (i << 40), 32) for i in range(8)),
    "IPv4 addresses of a /8": ((IPV4 + (45 << 24), 24),),
    "IPv6 /64s from everywhere, each twice": ((0x20000000_00000000, 61),),
}
TWICE = (
    "IPv6 /64s from everywhere, each twice"  # the worst for the table: each is let in, and no prefix is to be blamed
)
GROWTH_MOST = 0.05


@dataclass(slots=True)
class Answer:
    """What one flood came to. ``seconds``, ``pauses_s`` (of each sweep): on the processor, whatever else the machine does."""

    flood: str
    events: int
    rss_before: int
    rss_after: int
    seconds: float
    regulars: int
    regulars_kept: int
    evicted: int
    untracked: int
    prefixes: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    pauses_s: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Of the resident memory."""
        return self.rss_after / self.rss_before - 1.0

    @property
    def pause_s(self) -> float:
        """The median sweep, 0 without one."""
        return median(self.pauses_s) if self.pauses_s else 0.0

    def complaints(self) -> list[str]:
        """What is wrong with it."""
        found = []
        if abs(self.growth) > GROWTH_MOST:
            found.append(f"{self.flood}: memory grew by {self.growth:.1%}")
        if self.regulars_kept != self.regulars:
            found.append(f"{self.flood}: {self.regulars - self.regulars_kept} established senders lost their rows")
        if bool(self.prefixes) == (self.flood == TWICE) or self.outside:
            found.append(f"{self.flood}: {sum(self.prefixes.values())} prefixes held, {self.outside} of them wrongly")
        return found

    def as_dict(self) -> dict[str, Any]:
        """For the result."""
        return {
            "flood": self.flood,
            "events": self.events,
            "rss_before": self.rss_before,
            "rss_after": self.rss_after,
            "growth": round(self.growth, 4),
            "events_per_s": round(self.events / self.seconds),
            "regulars": self.regulars,
            "regulars_kept": self.regulars_kept,
            "evicted": self.evicted,
            "untracked": self.untracked,
            "prefix_decisions": dict(self.prefixes),
            "outside": self.outside,
            "sweeps": len(self.pauses_s),
            "sweep_pause_s": round(self.pause_s, 4),
        }


class Site:
    """One partition under way: ``rows`` its capacity, ``regulars`` its established senders."""

    def __init__(self, rows: int, regulars: int, seed: int) -> None:
        self.partition = Partition(Policy(1.0, DAY_MS, 0, 1), rows)
        self.random = np.random.default_rng(seed)
        self.regulars = np.sort(IPV4 + self.random.choice(1 << 30, regulars, replace=False).astype(np.uint64))
        self.now_ms = START_MS
        self.pauses_s: list[float] = []
        self._columns = empty_columns(BLOCK)
        self._offset = 0

    def send(self, keys: npt.NDArray[np.uint64], span_ms: float) -> npt.NDArray[Any]:
        """One message of each key, at an even pace; the verdicts."""
        count, columns = len(keys), self._columns
        columns.key[:count] = keys
        columns.ts_ms[:count] = self.now_ms + np.linspace(0, span_ms, count, endpoint=False).astype(np.int64)
        columns.record_ms[:count] = columns.ts_ms[:count]
        columns.offset[:count] = np.arange(self._offset, self._offset + count)
        columns.messages[:count], columns.outcome[:count], columns.status[:count] = 1, ACCEPTED, READY
        self._offset, self.now_ms = self._offset + count, self.now_ms + int(span_ms)
        return self.partition.apply(EventColumns._make(column[:count] for column in columns), 0, count)

    def live(self, days: int) -> None:
        """Everyday life: each regular once a day; on the last day newcomers fill the table up to the door."""
        for _ in range(days):
            for first in range(0, len(self.regulars), BLOCK):
                chosen = self.regulars[first : first + BLOCK]
                self.send(chosen, DAY_MS * len(chosen) / len(self.regulars))
        rows = len(self.partition.state.rows)
        while self.partition.keys < rows - rows // 16:
            room = min(BLOCK, rows - rows // 16 - self.partition.keys)
            self.send(IPV4 + (1 << 31) + self.random.integers(0, 1 << 30, room, np.uint64), 60_000.0)

    def kept(self) -> int:
        """How many of the regulars have their rows, and what was known of them."""
        kept = 0
        for first in range(0, self.partition.keys, BLOCK):
            rows = self.partition.state.rows[first : min(first + BLOCK, self.partition.keys)]
            keys = rows["key"][rows["active_days"] > 3]
            at = np.searchsorted(self.regulars, keys) % len(self.regulars)
            kept += int((self.regulars[at] == keys).sum())
        return kept

    def flood(self, name: str, events: int, rate: int) -> Answer:
        """So many events at ``rate`` a second of event time, one in sixteen of them a regular's."""
        site, process = self.partition.state.site, psutil.Process()
        before = {count: int(site[count][0]) for count in ("evicted", "untracked")}
        answer = Answer(name, events, process.memory_info().rss, 0, 0.0, len(self.regulars), 0, 0, 0)
        self.pauses_s = answer.pauses_s
        for first in range(0, events, BLOCK):
            keys = self._draw(name, min(BLOCK, events - first))
            begun_s = time.process_time()
            verdicts = self.send(keys, 1000.0 * len(keys) / rate)
            answer.seconds += time.process_time() - begun_s
            self._note(answer, name, verdicts)
        answer.rss_after, answer.regulars_kept = process.memory_info().rss, self.kept()
        answer.evicted, answer.untracked = (int(site[count][0]) - value for count, value in before.items())
        return answer

    def _draw(self, name: str, count: int) -> npt.NDArray[np.uint64]:
        sources = FLOODS[name]
        chosen = self.random.integers(0, len(sources), count)
        keys = np.array([first for first, _ in sources], np.uint64)[chosen]
        keys += self.random.integers(0, 1 << sources[0][1], count, np.uint64)
        if name == TWICE:
            keys[1::2] = keys[: count - 1 : 2]
        spared = np.arange(REGULARS_SHARE - 1, count, REGULARS_SHARE)
        keys[spared] = self.random.choice(self.regulars, len(spared))
        return keys

    @staticmethod
    def _note(answer: Answer, name: str, verdicts: npt.NDArray[Any]) -> None:
        for verdict in verdicts[(verdicts["kind"] == THROTTLE) & (verdicts["prefix"] > 0)]:
            key, length = int(verdict["key"]), int(verdict["prefix"])
            answer.prefixes[f"/{length}"] += 1
            answer.outside += not any(first <= key < first + (1 << bits) for first, bits in FLOODS[name])
            answer.outside += network_text(key, length).endswith("/0")

    def timed_sweep(self, state: Any) -> None:
        """The engine's own sweep, with a watch."""
        begun_s = time.process_time()
        eviction_module.sweep(state)
        self.pauses_s.append(time.process_time() - begun_s)


def run(rows: int, regulars: int, events: int, rate: int) -> tuple[list[Answer], dict[str, Any]]:
    """Everyday life, then each flood; the answers, and what was announced and taken of memory."""
    warm()
    site = Site(rows, regulars, 1)
    site.send(site.regulars[:1], 1.0)
    empty_rss, announced = psutil.Process().memory_info().rss, table_bytes(rows)
    with patch.object(partition_module, "sweep", site.timed_sweep):
        site.live(6)
        answers = []
        for name in FLOODS:
            answers.append(site.flood(name, events, rate))
            print(f"{name}: {answers[-1].as_dict()}", file=sys.stderr, flush=True)
    memory = {
        "slots": rows,
        "bytes_a_slot": BYTES_A_ROW,
        "announced": announced,
        "rss_empty": empty_rss,
        "rss_full": answers[-1].rss_after,
    }
    return answers, memory


def show(answers: list[Answer], memory: dict[str, Any]) -> None:
    """The table."""
    print(
        f"announced: {memory['slots']:,} slots x {memory['bytes_a_slot']} bytes and {BYTES_BESIDES:,} besides, "
        f"{memory['announced'] / 1e6:.1f} MB; taken: {(memory['rss_full'] - memory['rss_empty']) / 1e6:.1f} MB\n"
    )
    print(
        "| flood | events | M events a CPU s | RSS before, MB | after, MB | regulars kept | evicted | decisions | pause, ms |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---|---:|")
    for answer in answers:
        decisions = ", ".join(f"{count} for a {length}" for length, count in sorted(answer.prefixes.items()))
        print(
            f"| {answer.flood} | {answer.events:,} | {answer.events / answer.seconds / 1e6:.2f} "
            f"| {answer.rss_before / 1e6:.1f} | {answer.rss_after / 1e6:.1f} | {answer.regulars_kept:,} of "
            f"{answer.regulars:,} | {answer.evicted:,} | {decisions} | {1000 * answer.pause_s:.0f} |"
        )


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/detection/flood.py", description="Floods of addresses against a full table."
    )
    parser.add_argument("--rows", type=int, default=1 << 20, help="the table's capacity")
    parser.add_argument("--regulars", type=int, default=300_000, help="established senders")
    parser.add_argument("--events", type=int, default=50_000_000, help="of each flood")
    parser.add_argument("--rate", type=int, default=20_000, help="events a second of event time")
    parser.add_argument(
        "--results", type=Path, default=KEPT, help="where the result is appended, one JSON object a line"
    )
    parser.add_argument("--small", action="store_true", help="a second: checks the answers, keeps no result")
    chosen = parser.parse_args()
    stamp = machine.stamp()
    sizes = (
        (1 << 14, 4_000, 200_000, 2_000) if chosen.small else (chosen.rows, chosen.regulars, chosen.events, chosen.rate)
    )
    answers, memory = run(*sizes)
    show(answers, memory)
    wrong = [complaint for answer in answers for complaint in answer.complaints()]
    print("\n" + ("\n".join(f"WRONG {complaint}" for complaint in wrong) if wrong else "answers: right"))
    figures = {"answer": "wrong" if wrong else "right", **memory, "floods": [answer.as_dict() for answer in answers]}
    print(orjson.dumps(figures).decode(), flush=True)
    if not chosen.small:
        keep({"machine": stamp, "figures": figures}, chosen.results)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
