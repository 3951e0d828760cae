"""Throughput: topics filled once, contenders on them in turn, round after round, every answer checked.

Between two rounds nothing changes but the clock, so what disturbs the machine meets all alike, and ratios are taken within
a round. The engine is `tidegate worker` as it ships, whose model is more than the job: its decisions are compared with
those of `tidegate replay`, octet for octet, the others' with the oracle's. A contender that is slow reads a shorter topic.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from benchmarks.contest import perf_tool
from benchmarks.contest.contenders import BY_NAME, Entry
from benchmarks.contest.oracle import Answer, answer
from benchmarks.contest.perf_tool import ToolRun
from benchmarks.contest.process import Contender, Run, Task, measure
from benchmarks.contest.sizes import Case
from benchmarks.harness import answers, cluster
from benchmarks.harness.answers import Published
from benchmarks.harness.cluster import Place
from benchmarks.harness.engine_runs import run_engine, run_floors
from benchmarks.harness.errors import Broken
from benchmarks.harness.traffic import Traffic
from benchmarks.harness.worker import EngineRun
from engine.config.options import WorkerOptions
from engine.service.capacity import rows_of
from topics.contracts import CONNECTIONS

ENGINE, TOOL = "Tidegate", "Kafka's performance tool"
Say = Callable[[str], None]


@dataclass
class CaseResult:
    """Every run of a case, by contender, and who could not run and why. ``kernels``: the engine's kernels alone."""

    case: Case
    runs: dict[str, list[Run]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    kernels: list[dict[str, float]] = field(default_factory=list)
    octets_per_key: float = 0.0

    @property
    def wrong(self) -> list[str]:
        """What was wrong with anyone's answer."""
        return [
            f"{self.case.name}: {name}: {each}"
            for name, runs in self.runs.items()
            for run in runs
            for each in run.complaints
        ]

    @classmethod
    def empty(cls) -> Self:
        """That of a contest without this part."""
        return cls(Case("", 0, 0))

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Self:
        """The same again from what `asdict` gave."""
        runs = {name: [Run(**run) for run in runs] for name, runs in kept["runs"].items()}
        case = Case(**kept["case"] | {"peers": tuple(kept["case"]["peers"])})
        return cls(case, runs, kept["skipped"], kept["kernels"], kept["octets_per_key"])


@dataclass
class Ground:
    """A case's topic, filled, with the right answers to it."""

    place: Place
    traffic: Traffic
    right: Answer
    replayed: list[Published]


def prepare(case: Case, bootstrap: str, prefix: str, folder: Path, *, engine: bool = True) -> Ground:
    """Make and fill the case's topic, and find the answers: the oracle's if the case has peers, the replay's for the engine."""
    place = Place(bootstrap, prefix, rows_for(case.keys))
    traffic = Traffic(case.events, case.keys, case.shape, case.ipv6_share, case.chunk, all_first=case.all_first)
    cluster.make_topics(place)
    produced, _ = cluster.fill(place, traffic, case.codec)
    if produced.events != case.events:
        raise Broken(f"{case.name}: {produced.events:,} events were filled instead of {case.events:,}")
    replayed = answers.replayed(place, traffic, folder) if engine else []
    return Ground(place, traffic, answer(traffic.chunks()) if case.peers else Answer(), replayed)


def rows_for(keys: int) -> int:
    """Rows of a partition's table: as many as `tidegate plan` asks for if the default has fewer; nobody waits at its door."""
    return max(WorkerOptions().rows_per_partition, rows_of(keys, cluster.PARTITIONS))


def _shortened(case: Case, share: int, bootstrap: str, folder: Path) -> Ground:
    """The same with one event of ``share``."""
    fewer = replace(case, events=max(1, case.events // share))
    return prepare(fewer, bootstrap, f"short-{time.time_ns()}-", folder, engine=False)


def forget(ground: Ground) -> None:
    """Delete the case's topics."""
    cluster.delete_topics(ground.place, [CONNECTIONS.name, *cluster.OUTPUTS])


def run_case(case: Case, rounds: int, bootstrap: str, folder: Path, say: Say) -> CaseResult:
    """Run every round of a case."""
    result = CaseResult(case)
    entries = [BY_NAME[name] for name in case.peers]
    ready = _ready(entries, result, say)
    ground = prepare(case, bootstrap, f"contest-{time.time_ns()}-", folder)
    shares = {entry.share for entry in entries if entry.share > 1 and entry.name in ready}
    shorts = {share: _shortened(case, share, bootstrap, folder) for share in shares}
    right = f"oracle: {ground.right.decisions.total():,} decisions, " if entries else ""
    say(f"{case.name}: filled; {right}replay: {len(ground.replayed):,} decisions")
    for number in range(1, rounds + 1):
        _note(result, ENGINE, _engine(ground, result, folder), number, say)
        _note(result, TOOL, _tool(ground), number, say)
        for entry in entries:
            if entry.name in ready:
                _peer(entry, ready[entry.name], shorts.get(entry.share, ground), result, (number, folder, say))
    for each in (ground, *shorts.values()):
        forget(each)
    return result


def _ready(entries: list[Entry], result: CaseResult, say: Say) -> dict[str, Contender]:
    found = {}
    for entry in entries:
        try:
            found[entry.name] = entry.contender()
        except Broken as error:
            result.skipped[entry.name] = str(error)
            say(f"{entry.name} is left out: {error}")
    return found


def _note(result: CaseResult, name: str, run: Run, number: int, say: Say) -> None:
    result.runs.setdefault(name, []).append(run)
    verdict = "WRONG: " + run.complaints[0] if run.complaints else "right"
    say(
        f"{result.case.name} {number}: {name} {run.events_per_s:,.0f}/s, {run.cpu_s_per_million:.2f} CPU s/M, {verdict}"
    )


def _peer(entry: Entry, contender: Contender, ground: Ground, result: CaseResult, turn: tuple[int, Path, Say]) -> None:
    """One run of a peer; one that breaks down is left out from then on."""
    number, folder, say = turn
    if entry.name in result.skipped:
        return
    place, name = ground.place, f"peer-{time.time_ns()}"
    task = Task(place.bootstrap, place.connections, ground.traffic.events, name, folder / name)
    try:
        _note(result, entry.name, measure(contender, task, ground.right, entry.limit_s), number, say)
    except Broken as error:
        result.skipped[entry.name] = str(error)
        say(f"{entry.name} broke down: {error}")


def _engine(ground: Ground, result: CaseResult, folder: Path) -> Run:
    events, place = ground.traffic.events, ground.place
    run = run_engine(place, folder)
    wrong = answers.complaints(place, run, events, ground.replayed)
    result.kernels.append(run_floors(place)["kernels"])
    result.octets_per_key = run.rss_growth_octets_per_key
    return of_engine(run, wrong)


def of_engine(run: EngineRun, wrong: list[str]) -> Run:
    """A run of the engine like one of the others; it doesn't warm up, and its start isn't in its processor time."""
    return Run(
        run.events,
        run.events_per_s,
        None,
        run.seconds,
        run.cpu_s_per_million,
        None,
        run.rss_most_mb,
        run.start_s,
        wrong,
    )


def _tool(ground: Ground) -> Run:
    """The performance tool: its rate leaves joining the group out, its processor time has its start."""
    events = ground.traffic.events
    run: ToolRun = perf_tool.run(ground.place.bootstrap, ground.place.connections, events, f"tool-{time.time_ns()}")
    wrong = [] if run.events == events else [f"events: {run.events:,} instead of {events:,}"]
    cpu_s = run.cpu_s_per_million
    return Run(run.events, run.events_per_s, None, run.fetch_s, cpu_s, cpu_s, run.rss_most_mb, 0.0, wrong)
