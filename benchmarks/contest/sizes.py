"""How large a contest is, and its command line."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.contest.contenders import BY_NAME, CONFLUENT, FLINK, STREAMS
from benchmarks.harness.results import FOLDER
from benchmarks.harness.sizes import sized
from benchmarks.harness.traffic import SHAPES
from benchmarks.harness.workload import CHUNK_EVENTS

KEPT = FOLDER / "contest.ndjson"
CODECS = ("none", "zstd")  # besides lz4
SMALL_CHUNK = 64  # 16 events a batch
DIFFERENCES = ("keys", "shape", "codec", "batches", "ipv6")
PARTS = ("throughput", "grid", "keys", "open", "recovery", "scaling")


@dataclass(frozen=True)
class Case:
    """One topic that contenders read from beginning to end. ``chunk``: events sent at a time, a batch for each of four
    partitions; ``peers``: who reads it besides the engine and the performance tool; ``all_first``: each sender comes once
    before the events are drawn."""

    name: str
    events: int
    keys: int
    shape: str = "uniform"
    codec: str = "lz4"
    ipv6_share: float = 0.1
    chunk: int = CHUNK_EVENTS
    peers: tuple[str, ...] = ()
    all_first: bool = False


@dataclass(frozen=True)
class Sizes:
    """``parts``: what is measured; ``events`` of ``keys`` senders in the main case, read ``rounds`` times in turn by
    ``peers``; ``grid_events``: in each other case, read once; ``differences``: what those differ in; ``key_events``: drawn once
    each of ``key_counts`` senders is known; the open load rises from ``first_rate`` (events a second) by ``rise`` every
    ``level_s`` up to ``last_rate`` at most; ``latency_s``: how long latency is measured for; ``backlog_s``: of load that is
    worked off; ``recovery_keys``: senders whose state is restored; ``scaling_events``: of ``keys`` senders, read ``rounds``
    times by one worker, by two, by four."""

    parts: tuple[str, ...] = PARTS
    events: int = 4_000_000
    keys: int = 200_000
    rounds: int = 3
    peers: tuple[str, ...] = tuple(BY_NAME)
    grid_events: int = 2_000_000
    grid_keys: tuple[int, ...] = (10_000, 1_000_000)
    differences: tuple[str, ...] = DIFFERENCES
    key_counts: tuple[int, ...] = (10_000, 10_000_000)
    key_events: int = 4_000_000
    open_peers: tuple[str, ...] = (FLINK, STREAMS, CONFLUENT)
    first_rate: int = 80_000
    last_rate: int = 1_200_000
    rise: float = 1.15
    level_s: float = 6.0
    latency_s: float = 20.0
    backlog_s: float = 10.0
    recovery_keys: tuple[int, ...] = (10_000, 200_000, 1_000_000)
    scaling_events: int = 4_000_000
    results: Path | None = KEPT

    def as_dict(self) -> dict[str, Any]:
        """For the result: all but where it goes."""
        return {name: value for name, value in asdict(self).items() if name != "results"}

    def main_case(self) -> Case:
        """The case that all contenders read."""
        return Case(f"{self.keys:,} senders, lz4", self.events, self.keys, peers=self.peers)

    def grid(self) -> list[Case]:
        """The other cases: each differs from the main one in one thing."""
        beside = tuple(name for name in (FLINK, STREAMS) if name in self.peers)
        base = Case("", self.grid_events, self.keys)
        cases = {"keys": [replace(base, name=f"{keys:,} senders", keys=keys) for keys in self.grid_keys]}
        cases["keys"] = [replace(case, peers=beside) for case in cases["keys"]]
        cases["shape"] = [replace(base, name=f"shape {shape}", shape=shape, peers=beside) for shape in SHAPES[1:]]
        cases["codec"] = [replace(base, name=f"codec {codec}", codec=codec) for codec in CODECS]
        fewer = self.grid_events // 4
        cases["batches"] = [replace(base, name="batches of 16 events", chunk=SMALL_CHUNK, events=fewer)]
        cases["ipv6"] = [replace(base, name="IPv6 alone", ipv6_share=1.0)]
        return [case for name in self.differences for case in cases[name]]

    def known(self) -> list[Case]:
        """The cases in which every sender is known before its events are drawn."""
        return [
            Case(f"{keys:,} senders, all known", keys + self.key_events, keys, all_first=True)
            for keys in self.key_counts
        ]

    def scaled(self) -> Case:
        """What one worker reads, and several together."""
        return Case(f"{self.keys:,} senders, shared", self.scaling_events, self.keys)


SMALL = Sizes(
    events=80_000, keys=2_000, rounds=1, grid_events=20_000, differences=("shape", "batches"), open_peers=(STREAMS,),
    first_rate=5_000, last_rate=6_000, level_s=2.0, latency_s=3.0, backlog_s=2.0, recovery_keys=(2_000,),
    key_counts=(500, 5_000), key_events=60_000, scaling_events=80_000, results=None,
)  # fmt: skip


def sizes(arguments: list[str] | None = None) -> Sizes:
    """The sizes that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/contest/bench.py", description="Tidegate beside what a user would take instead."
    )
    parser.add_argument("--small", action="store_true", help="about four minutes: checks the answers only")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="what is measured")
    parser.add_argument("--peers", nargs="*", choices=tuple(BY_NAME), metavar="NAME", help=", ".join(BY_NAME))
    parser.add_argument("--open-peers", nargs="*", choices=tuple(BY_NAME), metavar="NAME", help="under open load")
    parser.add_argument("--events", type=int, help="events of the main case")
    parser.add_argument("--keys", type=int, help="its senders")
    parser.add_argument("--rounds", type=int, help="how often each contender reads it, in turn")
    parser.add_argument("--grid-events", type=int, help="events of each other case")
    parser.add_argument("--differences", nargs="*", choices=DIFFERENCES, help="what the other cases differ in")
    parser.add_argument("--grid-keys", type=int, nargs="*", help="numbers of senders, a case each")
    parser.add_argument("--key-counts", type=int, nargs="*", help="senders that are all known, a case each")
    parser.add_argument("--key-events", type=int, help="events drawn of them")
    parser.add_argument("--scaling-events", type=int, help="events that workers share")
    parser.add_argument("--recovery-keys", type=int, nargs="*", help="senders whose state is restored")
    parser.add_argument("--level-s", type=float, help="seconds of each level of the open load")
    parser.add_argument("--latency-s", type=float, help="seconds of the load that latency is measured under")
    parser.add_argument("--results", type=Path, help="where the result is appended, one JSON object a line")
    return sized(parser, arguments, small=SMALL, full=Sizes())
