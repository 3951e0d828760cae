"""The sizes of a contest, and its command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from benchmarks.contest.contenders import BY_NAME, CONFLUENT, FLINK, STREAMS
from benchmarks.harness.command import new_parser, parse
from benchmarks.harness.results import FOLDER
from benchmarks.harness.traffic import CHUNK_EVENTS, SHAPES

KEPT = FOLDER / "contest.ndjson"
CODECS = ("none", "zstd")  # in addition to lz4
SMALL_CHUNK = 64  # 16 events per batch
DIFFERENCES = ("keys", "shape", "codec", "batches", "ipv6")
PARTS = ("throughput", "grid", "keys", "open", "recovery", "scaling")


@dataclass(frozen=True)
class Case:
    """One topic that contenders read from beginning to end."""

    name: str
    events: int
    keys: int
    shape: str = "uniform"
    codec: str = "lz4"
    ipv6_share: float = 0.1
    chunk: int = CHUNK_EVENTS  # events sent at a time, a batch for each of four partitions
    peers: tuple[str, ...] = ()  # contenders other than the engine and the performance tool
    all_first: bool = False  # the first events are one of each sender


@dataclass(frozen=True)
class Sizes:
    """The sizes of all parts."""

    parts: tuple[str, ...] = PARTS
    events: int = 4_000_000  # of the main case
    keys: int = 200_000  # its senders
    rounds: int = 3  # each contender reads the main case so often, in turn
    peers: tuple[str, ...] = tuple(BY_NAME)
    grid_events: int = 2_000_000  # of each other case, which is read once
    grid_keys: tuple[int, ...] = (10_000, 1_000_000)
    differences: tuple[str, ...] = DIFFERENCES  # of the other cases from the main one
    key_counts: tuple[int, ...] = (10_000, 10_000_000)  # senders that are all known, a case each
    key_events: int = 4_000_000  # of them
    open_peers: tuple[str, ...] = (FLINK, STREAMS, CONFLUENT)
    first_rate: int = 80_000  # events per second of the open load's first level
    last_rate: int = 1_200_000  # at most
    rise: float = 1.15  # from one level to the next
    level_s: float = 6.0
    latency_s: float = 20.0  # latency is measured for so long
    backlog_s: float = 10.0  # of load that is worked off
    recovery_keys: tuple[int, ...] = (10_000, 200_000, 1_000_000)  # senders whose state is restored
    scaling_events: int = 4_000_000  # of `keys` senders, read `rounds` times by one worker, by two, by four

    def main_case(self) -> Case:
        """Return the case that all contenders read."""
        return Case(f"{self.keys:,} senders, lz4", self.events, self.keys, peers=self.peers)

    def grid(self) -> list[Case]:
        """Return the other cases: each differs from the main one in one thing."""
        peers = tuple(name for name in (FLINK, STREAMS) if name in self.peers)
        base = Case("", self.grid_events, self.keys)
        fewer = self.grid_events // 4
        cases = {
            "keys": [replace(base, name=f"{keys:,} senders", keys=keys, peers=peers) for keys in self.grid_keys],
            "shape": [replace(base, name=f"shape {shape}", shape=shape, peers=peers) for shape in SHAPES[1:]],
            "codec": [replace(base, name=f"codec {codec}", codec=codec) for codec in CODECS],
            "batches": [replace(base, name="batches of 16 events", chunk=SMALL_CHUNK, events=fewer)],
            "ipv6": [replace(base, name="IPv6 alone", ipv6_share=1.0)],
        }
        return [case for name in self.differences for case in cases[name]]

    def known(self) -> list[Case]:
        """Return the cases in which every sender is known before its events are drawn."""
        return [
            Case(f"{keys:,} senders, all known", keys + self.key_events, keys, all_first=True)
            for keys in self.key_counts
        ]

    def scaled(self) -> Case:
        """Return the case that one worker reads, and several together."""
        return Case(f"{self.keys:,} senders, shared", self.scaling_events, self.keys)


SMALL = Sizes(
    events=80_000, keys=2_000, rounds=1, grid_events=20_000, differences=("shape", "batches"), open_peers=(STREAMS,),
    first_rate=5_000, last_rate=6_000, level_s=2.0, latency_s=3.0, backlog_s=2.0, recovery_keys=(2_000,),
    key_counts=(500, 5_000), key_events=60_000, scaling_events=80_000,
)  # fmt: skip


def given_sizes(about: str | None, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; the result has an attribute for each field of `Sizes`."""
    parser = new_parser(about, KEPT)
    parser.set_defaults(**asdict(Sizes()))
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="parts to measure")
    parser.add_argument("--peers", nargs="*", choices=tuple(BY_NAME), metavar="NAME", help=", ".join(BY_NAME))
    parser.add_argument("--open-peers", nargs="*", choices=tuple(BY_NAME), metavar="NAME", help="under open load")
    parser.add_argument("--events", type=int, help="events of the main case")
    parser.add_argument("--keys", type=int, help="its senders")
    parser.add_argument("--rounds", type=int, help="times that each contender reads it, in turn")
    parser.add_argument("--grid-events", type=int, help="events of each other case")
    parser.add_argument("--differences", nargs="*", choices=DIFFERENCES, help="differences of the other cases")
    parser.add_argument("--grid-keys", type=int, nargs="*", help="numbers of senders, a case each")
    parser.add_argument("--key-counts", type=int, nargs="*", help="senders that are all known, a case each")
    parser.add_argument("--key-events", type=int, help="events drawn of them")
    parser.add_argument("--scaling-events", type=int, help="events that workers share")
    parser.add_argument("--recovery-keys", type=int, nargs="*", help="senders whose state is restored")
    parser.add_argument("--level-s", type=float, help="seconds of each level of the open load")
    parser.add_argument("--latency-s", type=float, help="seconds of the load under which latency is measured")
    return parse(parser, asdict(SMALL), arguments)


def sizes_of(given: argparse.Namespace) -> Sizes:
    """Return the sizes of a parsed command line."""
    values: dict[str, Any] = {field.name: getattr(given, field.name) for field in fields(Sizes)}
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Sizes(**values)
