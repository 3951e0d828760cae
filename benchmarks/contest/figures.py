"""The outcome of a contest: what is kept of it, the last line's figures, and where Tidegate loses.

A ratio relates Tidegate's rate to another's: of the same round where both read the same topic, of medians where the other
read a shorter one. A ratio of CPU seconds above 1 shows that the other needs more of them for the same events.

Results are kept in lines, and a part can be measured again alone: `whole` puts the latest run of each part together.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
import orjson

from benchmarks.contest.contenders import BY_NAME, CONFLUENT, FAUST, FLINK, QUIX, STREAMS
from benchmarks.contest.key_costs import KeyCost, key_figures
from benchmarks.contest.open_part import Opened
from benchmarks.contest.process import Run
from benchmarks.contest.recovery import Recovery
from benchmarks.contest.rounds import ENGINE, TOOL, CaseResult
from benchmarks.contest.scaling import Scaling, scaling_figures
from benchmarks.contest.sizes import PARTS, Case
from benchmarks.harness.worker import bytes_per_key

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
MOST_COST_RATIO, MOST_RSS_BYTES = 2.0, 200.0  # most senders relative to fewest; per sender, the whole process
BASE, GRID = "throughput", "grid"
OLD_KEYS = {b"_octets": b"_bytes", b'"octets_per_key': b'"bytes_per_key'}  # in results until 2026-11
FIELDS = {"open": "opened", "recovery": "recoveries", "keys": "key_costs", "scaling": "scaled"}


@dataclass
class Outcome:
    """All measurements of a contest."""

    cases: list[CaseResult] = field(default_factory=list)  # the first is the one that all contenders read
    opened: list[Opened] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    key_costs: list[KeyCost] = field(default_factory=list)
    scaled: list[Scaling] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Return a line for every wrong answer."""
        others: list[Any] = [*self.opened, *self.recoveries, *self.key_costs, *self.scaled]
        lists = [*(case.wrong for case in self.cases), *(each.complaints for each in others)]
        return [line for lines in lists for line in lines]

    def as_dict(self) -> dict[str, Any]:
        """Return what is kept."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Self:
        """Return the outcome of a kept result; parts that it lacks are empty."""
        return msgspec.convert(kept, cls)


def whole(path: Path) -> dict[str, Any] | None:
    """Return the latest result of each part, put together from the file's lines; None without a throughput.

    It has the machine of the latest throughput. ``machines`` holds the machine of every part that another run measured.
    """
    text = path.read_bytes() if path.exists() else b""
    for old, new in OLD_KEYS.items():
        text = text.replace(old, new)
    lines = [orjson.loads(line) for line in text.splitlines()]
    last = {part: line for line in lines for part in PARTS if part in line["sizes"]["parts"]}
    if BASE not in last:
        return None
    base: dict[str, Any] = last[BASE]
    kept = base | {"machines": {part: line["machine"] for part, line in last.items() if line is not base}}
    for part, name in FIELDS.items():
        kept[name] = last[part].get(name, []) if part in last else []
    kept["cases"] = [case for case in base["cases"] if case["case"]["name"] == main_name(base)]
    if GRID in last:
        kept["cases"] += [case for case in last[GRID]["cases"] if case["case"]["name"] != main_name(last[GRID])]
    return kept


def main_name(kept: dict[str, Any]) -> str:
    """Return the name of the case that all contenders read."""
    return f"{kept['sizes']['keys']:,} senders, lz4"


def median(runs: Sequence[Run], name: str) -> float:
    """Return the median of one of `Run`'s figures."""
    return float(statistics.median(getattr(run, name) for run in runs))


def ratios(case: CaseResult, other: str) -> list[float]:
    """Return Tidegate's rate relative to another's, round by round; nothing if the other has no right run."""
    mine, theirs = case.runs.get(ENGINE, []), case.runs.get(other, [])
    if not mine or not theirs or any(run.complaints for run in theirs):
        return []
    if len(mine) != len(theirs) or (other in BY_NAME and BY_NAME[other].share > 1):
        return [median(mine, "events_per_s") / median(theirs, "events_per_s")]
    return [one.events_per_s / two.events_per_s for one, two in zip(mine, theirs, strict=True)]


def cpu_ratio(case: CaseResult, other: str) -> float | None:
    """Return another's CPU seconds per event relative to Tidegate's."""
    if not ratios(case, other):
        return None
    return median(case.runs[other], "cpu_s_per_million") / median(case.runs[ENGINE], "cpu_s_per_million")


def last_line(outcome: Outcome) -> dict[str, Any]:
    """Return the figures by name; None for what was not measured."""
    line: dict[str, Any] = {}
    main = outcome.cases[0] if outcome.cases else CaseResult(Case("", 0, 0))
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
    line["table_bytes_per_key"] = bytes_per_key()
    answer = {"answer": "wrong" if outcome.wrong else "right"}
    return line | key_figures(outcome.key_costs) | scaling_figures(outcome.scaled) | answer


def losses(outcome: Outcome) -> list[str]:
    """Return a sentence for each comparison that Tidegate loses."""
    found = [
        f"{case.case.name}: {name} takes {1 / middle:.2f} times as many events a second"
        for case in outcome.cases
        for name in case.runs
        if name != ENGINE and ratios(case, name) and (middle := statistics.median(ratios(case, name))) < 1
    ]
    found += [
        f"{case.case.name}: {name} needs {share:.2f} of the CPU time"
        for case in outcome.cases
        for name in case.runs
        if name != ENGINE and (share := cpu_ratio(case, name)) is not None and share < 1
    ]
    others = (*_open_losses(outcome.opened), *_recovery_losses(outcome.recoveries))
    return [*found, *others, *_key_losses(outcome.key_costs)]


def _open_losses(opened: Sequence[Opened]) -> list[str]:
    mine = next((each for each in opened if each.name == ENGINE), None)
    if mine is None:
        return []
    others = [each for each in opened if each.name != ENGINE]
    found = [
        f"open load: {each.name} sustains {each.sustainable:,} events/s"
        for each in others
        if each.sustainable > mine.sustainable
    ]
    return found + [
        f"open load: {each.name}'s p99 is {each.latency.p99_ms:.0f} ms at {each.latency.rate:,} events/s"
        for each in others
        if mine.latency and each.latency and each.latency.p99_ms < mine.latency.p99_ms
    ]


def _recovery_losses(recoveries: Sequence[Recovery]) -> list[str]:
    mine = {each.keys: each.restored_s for each in recoveries if each.name == ENGINE}
    return [
        f"restart with {each.keys:,} senders: {each.name} needs {each.restored_s:.1f} s, Tidegate {mine[each.keys]:.1f} s"
        for each in recoveries
        if each.restored_s < mine.get(each.keys, 0.0)
    ]


def _key_losses(costs: Sequence[KeyCost]) -> list[str]:
    """Return where many senders cost too much. Memory counts from a million on, where they outweigh the process itself."""
    if not costs:
        return []
    few, many = min(costs, key=lambda each: each.keys), max(costs, key=lambda each: each.keys)
    found = []
    if (ratio := many.cpu_s_per_million / few.cpu_s_per_million) > MOST_COST_RATIO:
        which = f"an event of {many.keys:,} senders costs {ratio:.2f} times one of {few.keys:,}"
        found.append(f"{which}: {MOST_COST_RATIO:g} wanted")
    if many.keys >= 1_000_000 and many.rss_most_bytes > MOST_RSS_BYTES:
        found.append(f"{many.keys:,} senders take {many.rss_most_bytes:.0f} bytes each: {MOST_RSS_BYTES:g} wanted")
    return found
