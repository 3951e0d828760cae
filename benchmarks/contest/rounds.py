"""Throughput: topics are filled once, contenders read them in turn, round after round, every answer is checked.

Nothing changes between two rounds but the time, so a disturbance of the machine affects all contenders alike, and ratios are
taken within a round. The engine is `tidegate worker` as it ships, with its whole model instead of the job: its decisions
are compared with those of `tidegate replay`, byte for byte, the others' with the oracle's. A slow contender reads a shorter
topic.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.contest import perf_tool
from benchmarks.contest.contenders import BY_NAME, Entry
from benchmarks.contest.oracle import Answer, answer
from benchmarks.contest.process import Contender, Run, Task, measure
from benchmarks.contest.sizes import Case
from benchmarks.harness import answers, topic_space
from benchmarks.harness.answers import Published
from benchmarks.harness.command import log_progress
from benchmarks.harness.errors import Broken
from benchmarks.harness.topic_space import TopicSpace
from benchmarks.harness.traffic import Traffic
from benchmarks.harness.worker import figures_of, run_kernel_floor, watch_engine
from engine.config.options import WorkerOptions
from engine.service.capacity import rows_of

ENGINE, TOOL = "Tidegate", "Kafka's performance tool"


@dataclass
class CaseResult:
    """Every run of a case, by contender."""

    case: Case
    runs: dict[str, list[Run]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  # why a contender could not run
    kernels: list[dict[str, float]] = field(default_factory=list)  # the engine's kernels alone
    bytes_per_key: float = 0.0  # growth of the engine's memory

    @property
    def wrong(self) -> list[str]:
        """Return what was wrong with the answers, one line each."""
        runs = ((name, run) for name, runs in self.runs.items() for run in runs)
        return [f"{self.case.name}: {name}: {each}" for name, run in runs for each in run.complaints]

    def add(self, name: str, run: Run, number: int) -> None:
        """Add a contender's run of round ``number``."""
        self.runs.setdefault(name, []).append(run)
        verdict = "WRONG: " + run.complaints[0] if run.complaints else "right"
        cost = f"{run.events_per_s:,.0f}/s, {run.cpu_s_per_million:.2f} CPU s/M"
        log_progress(f"{self.case.name} {number}: {name} {cost}, {verdict}")

    def skip(self, name: str, error: Broken) -> None:
        """Leave a contender out from now on."""
        self.skipped[name] = str(error)
        log_progress(f"{name} is left out: {error}")


@dataclass
class FilledCase:
    """A case's topic, with the right answers to it."""

    space: TopicSpace
    traffic: Traffic
    right: Answer
    replayed: list[Published]


def prepare(case: Case, bootstrap: str, folder: Path, *, engine: bool = True) -> FilledCase:
    """Fill the case's topic and compute the answers: the oracle's if the case has peers, the replay's for the engine."""
    space = TopicSpace(bootstrap, f"contest-{time.time_ns()}-", rows_for(case.keys))
    traffic = Traffic(case.events, case.keys, case.shape, case.ipv6_share, case.chunk, all_first=case.all_first)
    topic_space.make_topics(space)
    produced = topic_space.fill(space, traffic, case.codec)
    if produced.events != case.events:
        raise Broken(f"{case.name}: {produced.events:,} events were sent instead of {case.events:,}")
    replayed = answers.replayed(space, traffic, folder) if engine else []
    return FilledCase(space, traffic, answer(traffic.chunks()) if case.peers else Answer(), replayed)


def rows_for(keys: int) -> int:
    """Return the rows of a partition's table: those that `tidegate plan` asks for, so that every sender gets one."""
    return max(WorkerOptions().rows_per_partition, rows_of(keys, topic_space.PARTITIONS))


def run_case(case: Case, rounds: int, bootstrap: str, folder: Path) -> CaseResult:
    """Run every round of a case."""
    result = CaseResult(case)
    entries = [BY_NAME[name] for name in case.peers]
    ready = _ready(entries, result)
    filled = {1: prepare(case, bootstrap, folder)}
    for share in {entry.share for entry in entries if entry.name in ready} - {1}:
        fewer = replace(case, events=max(1, case.events // share))
        filled[share] = prepare(fewer, bootstrap, folder, engine=False)
    right = f"oracle: {filled[1].right.decisions.total():,} decisions, " if entries else ""
    log_progress(f"{case.name}: filled; {right}replay: {len(filled[1].replayed):,} decisions")
    for number in range(1, rounds + 1):
        result.add(ENGINE, _run_engine(filled[1], result, folder), number)
        result.add(TOOL, perf_tool.run(filled[1].space, case.events), number)
        for entry in entries:
            if entry.name in ready and entry.name not in result.skipped:
                try:
                    run = _run_peer(entry, ready[entry.name], filled[entry.share], folder)
                except Broken as error:
                    result.skip(entry.name, error)
                else:
                    result.add(entry.name, run, number)
    for each in filled.values():
        topic_space.delete_all(each.space)
    return result


def _ready(entries: list[Entry], result: CaseResult) -> dict[str, Contender]:
    found = {}
    for entry in entries:
        try:
            found[entry.name] = entry.contender()
        except Broken as error:
            result.skip(entry.name, error)
    return found


def _run_peer(entry: Entry, contender: Contender, filled: FilledCase, folder: Path) -> Run:
    space, name = filled.space, f"peer-{time.time_ns()}"
    task = Task(space.bootstrap, space.connections, filled.traffic.events, name, folder / name)
    return measure(contender, task, filled.right, entry.limit_s)


def _run_engine(filled: FilledCase, result: CaseResult, folder: Path) -> Run:
    """Run the engine. It doesn't warm up, and its start isn't part of its CPU time."""
    space = filled.space
    run = figures_of(*watch_engine(space, folder))
    wrong = answers.complaints(space, run, filled.traffic.events, filled.replayed)
    result.kernels.append(run_kernel_floor(space))
    result.bytes_per_key = run.rss_growth_bytes_per_key
    cost = run.cpu_s_per_million
    return Run(run.events, run.events_per_s, None, cost, run.rss_most_mb, run.start_s, wrong)
