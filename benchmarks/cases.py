"""One case: a topic filled once, and the contenders on it in turn, round after round, on one broker.

Between two rounds nothing changes but the clock, so what disturbs the machine meets all alike; ratios are taken within a
round. Every run of the engine must give the right answer.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks import answers, cluster, perf_tool
from benchmarks.cluster import PARTITIONS, Place
from benchmarks.engine_worker import EngineRun, Sample, Worker, measured
from benchmarks.errors import Broken
from benchmarks.perf_tool import ToolRun
from benchmarks.sizes import Sizes
from benchmarks.workload import Workload
from topics.contracts import CONNECTIONS

HERE = Path(__file__).parent
Say = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """Senders and compression. Its name: ``200k-lz4``."""

    keys: int
    codec: str

    @property
    def name(self) -> str:
        """As it stands in tables."""
        count = f"{self.keys // 1_000_000}m" if self.keys % 1_000_000 == 0 else f"{self.keys // 1000}k"
        return f"{count}-{self.codec}"


@dataclass
class CaseResult:
    """Every single run of a case, in order."""

    case: Case
    events: int
    octets_per_event: float
    engine: list[EngineRun] = field(default_factory=list)
    tool: list[ToolRun] = field(default_factory=list)
    faust: list[dict[str, float]] = field(default_factory=list)
    floors: list[dict[str, dict[str, float]]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def ratios(self) -> list[float]:
        """Engine to tool, round by round."""
        return [mine.events_per_s / other.events_per_s for mine, other in zip(self.engine, self.tool, strict=True)]

    def engine_median(self, name: str) -> float:
        """The median of one of `EngineRun`'s figures."""
        return float(statistics.median(getattr(run, name) for run in self.engine))

    def as_dict(self) -> dict[str, Any]:
        """For the kept result."""
        return asdict(self) | {"case": self.case.name, "keys": self.case.keys, "codec": self.case.codec}

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Self:
        """The same again."""
        own = {name: kept[name] for name in ("events", "octets_per_event", "faust", "floors", "complaints")}
        engine, tool = [EngineRun(**run) for run in kept["engine"]], [ToolRun(**run) for run in kept["tool"]]
        return cls(Case(kept["keys"], kept["codec"]), engine=engine, tool=tool, **own)


def cases(sizes: Sizes) -> Iterator[Case]:
    """In the order in which they run."""
    for keys in sizes.keys:
        for codec in sizes.codecs:
            yield Case(keys, codec)


def run_case(case: Case, sizes: Sizes, bootstrap: str, folder: Path, say: Say) -> CaseResult:
    """Fill, run every round, check every answer. Stock Faust runs in the first case only: it is the same for all."""
    place, workload = Place(bootstrap, f"{case.name}-"), Workload(sizes.events, case.keys)
    cluster.make_topics(place)
    produced, seconds = cluster.fill(place, workload, case.codec)
    say(f"{case.name}: {produced.events:,} events filled in {seconds:.1f} s")
    expected = answers.replayed(place, workload, folder)
    say(f"{case.name}: replay gives {len(expected):,} decisions")
    result = CaseResult(case, sizes.events, produced.octets / produced.events)
    if produced.events != sizes.events:
        result.complaints.append(f"events filled: {produced.events:,} instead of {sizes.events:,}")
    for number in range(1, sizes.rounds + 1):
        engine = run_engine(place, folder)
        tool = perf_tool.run(bootstrap, place.connections, sizes.events, f"tool-{time.time_ns()}")
        result.engine.append(engine)
        result.tool.append(tool)
        result.floors.append(run_floors(place))
        wrong = answers.complaints(place, engine, sizes.events, expected)
        if tool.events != sizes.events:
            wrong.append(f"the performance tool read {tool.events:,} events instead of {sizes.events:,}")
        result.complaints += [f"{case.name}, round {number}: {complaint}" for complaint in wrong]
        say(_told(case, number, result))
        if case == next(cases(sizes)):
            result.faust.append(_stock_faust(place, sizes.faust_events))
            say(f"{case.name} {number}/{sizes.rounds}: stock Faust {result.faust[-1]['events_per_s']:,.0f} events/s")
    cluster.delete_topics(place, [CONNECTIONS.name, *cluster.OUTPUTS])
    return result


def _told(case: Case, number: int, result: CaseResult) -> str:
    engine, tool, floors = result.engine[-1], result.tool[-1], result.floors[-1]
    rates = {
        "engine": engine.events_per_s,
        "tool": tool.events_per_s,
        "fetch alone": floors["fetch"]["events_per_s"],
        "kernels alone": floors["kernels"]["events_per_s"],
    }
    told = ", ".join(f"{name} {rate / 1e6:.2f} M/s" for name, rate in rates.items())
    return f"{case.name} {number}: {told}; answer {'wrong' if result.complaints else 'right'}"


def run_engine(place: Place, folder: Path) -> EngineRun:
    """One run of a fresh worker over the whole topic."""
    return measured(*watch_engine(place, folder))


def watch_engine(place: Place, folder: Path, **variables: str) -> tuple[list[Sample], dict[int, int], float]:
    """What `measured` takes: every status of such a run, the partitions' last offsets, when the worker was started.
    ``variables``: of its environment, besides the place's."""
    cluster.empty_outputs(place)
    last = {number: end - 1 for number, end in cluster.ends(place).items()}
    with Worker(place.environment(f"bench-{time.time_ns()}", **variables), folder) as worker:
        samples = worker.until_durable(last)
    return samples, last, worker.started_s


def run_floors(place: Place, **variables: str) -> dict[str, dict[str, float]]:
    """The floors on a filled topic (`floors.py`); ``variables``: of their environment, besides the place's."""
    arguments = ["--bootstrap", place.bootstrap, "--topic", place.connections, "--partitions", str(PARTITIONS)]
    floors: dict[str, dict[str, float]] = json_of(place, HERE / "floors.py", arguments, **variables)
    return floors


def _stock_faust(place: Place, events: int) -> dict[str, float]:
    arguments = ["--bootstrap", place.bootstrap, "--topic", place.connections, "--events", str(events)]
    found: dict[str, float] = json_of(
        place, HERE / "peers" / "stock_faust.py", [*arguments, "--group", f"faust-{time.time_ns()}"]
    )
    if found["events"] != events:
        raise Broken(f"stock Faust read {found['events']:,} events instead of {events:,}")
    return found


def json_of(place: Place, script: Path, arguments: list[str], **variables: str) -> Any:
    """What a script of ours prints, in an environment without the caller's options."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=place.environment(**variables), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Broken(f"{script.name} ended with status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])
