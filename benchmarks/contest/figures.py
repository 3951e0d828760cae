"""What came of a contest, by name, and where Tidegate loses: the last line's object and the list of losses.

A ratio is Tidegate's rate to another's: of the same round where they read the same topic, of medians where the other read a
shorter one. A ratio of processor seconds above 1 says that the other needs more of them for the same events.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from benchmarks.contest import key_costs as keycosts
from benchmarks.contest import scaling
from benchmarks.contest.contenders import BY_NAME, CONFLUENT, FAUST, FLINK, QUIX, STREAMS
from benchmarks.contest.key_costs import KeyCost
from benchmarks.contest.open_part import Opened
from benchmarks.contest.process import Run
from benchmarks.contest.recovery import Recovery
from benchmarks.contest.rounds import ENGINE, TOOL, CaseResult
from benchmarks.contest.scaling import Scaling
from benchmarks.harness.worker import octets_per_key

SHORT_NAMES = {
    TOOL: "perf_tool_lz4",
    FAUST: "stock_faust",
    f"{FAUST}, no table": "stock_faust_no_table",
    QUIX: "quix",
    STREAMS: "kafka_streams",
    f"{STREAMS}, RocksDB": "kafka_streams_rocksdb",
    FLINK: "flink",
    f"{FLINK}, RocksDB": "flink_rocksdb",
    CONFLUENT: "confluent_loop",
    "Bytewax": "bytewax",
}


MOST_COST_RATIO, MOST_RSS_OCTETS = 2.0, 200.0  # with the most senders to the fewest; a sender, the whole process


@dataclass
class Outcome:
    """All that a contest measured; the first case is the one that everybody reads."""

    cases: list[CaseResult] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    key_costs: list[KeyCost] = field(default_factory=list)
    scaled: list[Scaling] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Every wrong answer."""
        said = [each.complaints for each in self.opened] + [each.complaints for each in self.recoveries]
        said += [each.complaints for each in self.key_costs] + [each.complaints for each in self.scaled]
        return [line for lines in [*(case.wrong for case in self.cases), *said] for line in lines]

    def as_dict(self) -> dict[str, Any]:
        """For the kept result."""
        return {
            "cases": [asdict(case) for case in self.cases],
            "opened": [each.as_dict() for each in self.opened],
            "recoveries": [each.as_dict() for each in self.recoveries],
            "key_costs": [each.as_dict() for each in self.key_costs],
            "scaled": [each.as_dict() for each in self.scaled],
        }

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Self:
        """The same again; results of before a part was made lack it."""
        return cls(
            [CaseResult.from_dict(case) for case in kept["cases"]],
            [Opened.from_dict(each) for each in kept["opened"]],
            [Recovery(**each) for each in kept["recoveries"]],
            [KeyCost(**each) for each in kept.get("key_costs", ())],
            [Scaling(**each) for each in kept.get("scaled", ())],
        )


def median(runs: Sequence[Run], name: str) -> float:
    """The median of one of `Run`'s figures."""
    return float(statistics.median(getattr(run, name) for run in runs))


def ratios(case: CaseResult, other: str) -> list[float]:
    """Tidegate's rate to another's, round by round; empty if the other has no right run."""
    mine, theirs = case.runs.get(ENGINE, []), case.runs.get(other, [])
    if not mine or not theirs or any(run.complaints for run in theirs):
        return []
    if len(mine) != len(theirs) or (other in BY_NAME and BY_NAME[other].share > 1):
        return [median(mine, "events_per_s") / median(theirs, "events_per_s")]
    return [one.events_per_s / two.events_per_s for one, two in zip(mine, theirs, strict=True)]


def cpu_ratio(case: CaseResult, other: str) -> float | None:
    """Another's processor seconds an event to Tidegate's."""
    if not ratios(case, other):
        return None
    return median(case.runs[other], "cpu_s_per_million") / median(case.runs[ENGINE], "cpu_s_per_million")


def last_line(outcome: Outcome) -> dict[str, Any]:
    """The figures by name; None for what was not measured."""
    line: dict[str, Any] = {}
    main = outcome.cases[0] if outcome.cases else CaseResult.empty()
    if ENGINE in main.runs:
        line["events_per_s"] = round(median(main.runs[ENGINE], "events_per_s"))
        line["cpu_s_per_million"] = round(median(main.runs[ENGINE], "cpu_s_per_million"), 3)
    for name, short in SHORT_NAMES.items():
        found, cpu = ratios(main, name), cpu_ratio(main, name)
        line[f"ratio_{short}"] = round(statistics.median(found), 3) if found else None
        line[f"cpu_ratio_{short}"] = round(cpu, 3) if cpu else None
    mine = next((each for each in outcome.opened if each.name == ENGINE), None)
    line["sustainable_events_per_s"] = mine.sustainable if mine else None
    line["decision_p99_ms"] = round(mine.latency.p99_ms, 1) if mine and mine.latency else None
    for each in outcome.opened:
        if each.name in SHORT_NAMES:
            line[f"sustainable_{SHORT_NAMES[each.name]}"] = each.sustainable
            line[f"decision_p99_ms_{SHORT_NAMES[each.name]}"] = round(each.latency.p99_ms, 1) if each.latency else None
    line["table_octets_per_key"] = octets_per_key()[0]
    return line | keycosts.told(outcome.key_costs) | scaling.told(outcome.scaled)


def losses(outcome: Outcome) -> list[str]:
    """Where another is better, a sentence each."""
    found = [
        f"{case.case.name}: {name} takes {1 / middle:.2f} times as many events a second"
        for case in outcome.cases
        for name in case.runs
        if name != ENGINE and ratios(case, name) and (middle := statistics.median(ratios(case, name))) < 1
    ]
    found += [
        f"{case.case.name}: {name} needs {share:.2f} of the processor time"
        for case in outcome.cases
        for name in case.runs
        if name != ENGINE and (share := cpu_ratio(case, name)) is not None and share < 1
    ]
    others = (*_open_losses(outcome.opened), *_recovery_losses(outcome.recoveries))
    return [*found, *others, *_key_losses(outcome.key_costs)]


def _open_losses(opened: Sequence[Opened]) -> list[str]:
    mine = next((each for each in opened if each.name == ENGINE), None)
    others = [each for each in opened if each.name != ENGINE and mine is not None]
    found = [
        f"open load: {each.name} bears {each.sustainable:,} events/s"
        for each in others
        if mine and each.sustainable > mine.sustainable
    ]
    return found + [
        f"open load: {each.name}'s p99 is {each.latency.p99_ms:.0f} ms at {each.latency.rate:,} events/s"
        for each in others
        if mine and mine.latency and each.latency and each.latency.p99_ms < mine.latency.p99_ms
    ]


def _recovery_losses(recoveries: Sequence[Recovery]) -> list[str]:
    mine = {each.keys: each.restored_s for each in recoveries if each.name == ENGINE}
    return [
        f"coming back with {each.keys:,} senders: {each.name} needs {each.restored_s:.1f} s, Tidegate {mine[each.keys]:.1f} s"
        for each in recoveries
        if each.restored_s < mine.get(each.keys, 0.0)
    ]


def _key_losses(costs: Sequence[KeyCost]) -> list[str]:
    """Where many senders cost more than they should; memory counts from a million on, which outweigh the process's own."""
    if not costs:
        return []
    few, many = min(costs, key=lambda each: each.keys), max(costs, key=lambda each: each.keys)
    found = []
    if (ratio := many.cpu_s_per_million / few.cpu_s_per_million) > MOST_COST_RATIO:
        of = f"an event of {many.keys:,} senders costs {ratio:.2f} times one of {few.keys:,}"
        found.append(f"{of}: {MOST_COST_RATIO:g} wanted")
    if many.keys >= 1_000_000 and many.rss_most_octets > MOST_RSS_OCTETS:
        found.append(f"{many.keys:,} senders take {many.rss_most_octets:.0f} octets each: {MOST_RSS_OCTETS:g} wanted")
    return found
