"""What a run says: a table a reader can check, the floors, what falls short of its target, and the last line's object."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.cases import CaseResult
from benchmarks.engine_worker import octets_per_key
from benchmarks.latency import Latency

MOST_P99_MS = 250.0
LEAST_FAUST_RATIO = 100.0
LEAST_RATIO = {"lz4": 1.0, "none": 0.7}
MOST_OCTETS_PER_KEY = 128
MOST_START_S = 10.0


class Target(NamedTuple):
    """A figure and the bound that it should keep: at least, or at most."""

    what: str
    figure: float
    bound: float
    at_least: bool

    @property
    def kept(self) -> bool:
        """Whether it does."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    def text(self) -> str:
        """One line."""
        return f"{self.what}: {self.figure:.4g}, wanted {'at least' if self.at_least else 'at most'} {self.bound:g}"


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> str:
    """Median, and least to most: ``2.10 (2.05–2.14)``."""
    middle, low, high = (value / scale for value in (statistics.median(values), min(values), max(values)))
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    for line in lines:
        yield f"| {' | '.join(line)} |"


def _case_row(result: CaseResult) -> list[str]:
    engine, tool = result.engine, result.tool
    return [
        result.case.name,
        spread([run.events_per_s for run in engine], 1e6),
        spread([run.events_per_s for run in tool], 1e6),
        spread(result.ratios()),
        spread([run.cpu_s_per_million for run in engine]),
        spread([run.cpu_s_per_million for run in tool]),
        f"{result.engine_median('rss_most_mb'):.0f}",
        f"{result.engine[0].counts['throttles']:,} + {result.engine[0].counts['releases']:,}",
    ]


def _floor_row(result: CaseResult) -> list[str]:
    fetch, kernels = ([floors[name] for floors in result.floors] for name in ("fetch", "kernels"))
    parts = [[each[f"{name}_s_per_million"] for each in kernels] for name in ("unpack", "scan", "detect")]
    return [
        result.case.name,
        spread([each["events_per_s"] for each in fetch], 1e6),
        spread([each["cpu_s_per_million"] for each in fetch]),
        f"{fetch[0]['octets_per_event']:.0f}",
        spread([each["events_per_s"] for each in kernels], 1e6),
        " + ".join(f"{statistics.median(part):.3f}" for part in parts),
    ]


def _work_row(result: CaseResult) -> list[str]:
    """Where an engine run's seconds went."""
    figures = ("seconds", "busy_s", "checkpoint_s", "checkpoint_rows", "checkpoints", "idle_s", "start_s")
    medians = {name: result.engine_median(name) for name in figures}
    growth = result.engine_median("rss_growth_octets_per_key")
    return [
        result.case.name,
        *(f"{medians[name]:.2f}" for name in ("seconds", "busy_s", "checkpoint_s")),
        f"{medians['checkpoints']:.0f} / {medians['checkpoint_rows']:,.0f}",
        *(f"{medians[name]:.2f}" for name in ("idle_s", "start_s")),
        f"{growth:.0f}",
    ]


def tables(results: Sequence[CaseResult], latency: Latency | None) -> Iterator[str]:
    """All tables, Markdown, line by line. Figures: median (least–most)."""
    head = ["case", "engine, M events/s", "perf tool, M events/s", "ratio", "engine CPU s/M", "tool CPU s/M"]
    yield from _table([*head, "engine peak MB", "throttles + releases"], map(_case_row, results))
    yield ""
    head = ["floors", "fetch alone, M events/s", "fetch CPU s/M", "octets/event", "kernels alone, M events/s"]
    yield from _table([*head, "unpack + scan + detect, s/M"], map(_floor_row, results))
    yield ""
    head = ["engine run", "seconds", "detecting", "checkpoints, summed", "checkpoints / rows", "idle before the last"]
    yield from _table([*head, "start to first block", "memory growth, octets/key"], map(_work_row, results))
    yield ""
    yield from _sentences(results, latency)


def _sentences(results: Sequence[CaseResult], latency: Latency | None) -> Iterator[str]:
    rates = [run["events_per_s"] for run in results[0].faust]
    yield f"- stock Faust + river, {results[0].case.name}: {spread(rates, digits=0)} events/s"
    if latency is not None:
        yield (
            f"- event to decision at {latency.events_per_s:,.0f} events/s: p50 {latency.p50_ms:.1f}, p99 {latency.p99_ms:.1f}, "
            f"p99.9 {latency.p999_ms:.1f}, most {latency.most_ms:.1f} ms over {latency.decisions:,} decisions "
            f"(load at most {latency.late_most_ms:.1f} ms late), {latency.cpu_s_per_million:.2f} CPU s/M"
        )
    table, state = octets_per_key()
    yield f"- octets a key of a full table: {table:.0f}; with the lists of changed and of throttled rows {state:.0f}"


def faust_ratio(results: Sequence[CaseResult]) -> float:
    """Engine to stock Faust, in the case that both ran."""
    first = results[0]
    return statistics.median(
        mine.events_per_s / other["events_per_s"] for mine, other in zip(first.engine, first.faust, strict=True)
    )


def targets(results: Sequence[CaseResult], latency: Latency | None) -> list[Target]:
    """All figures that have a bound."""
    found = [
        Target(f"{result.case.name}, ratio to the performance tool", statistics.median(result.ratios()), bound, True)
        for result in results
        for bound in [LEAST_RATIO[result.case.codec]]
    ]
    found.append(Target("ratio to stock Faust", faust_ratio(results), LEAST_FAUST_RATIO, True))
    found.append(Target("octets of table a key", octets_per_key()[0], MOST_OCTETS_PER_KEY, False))
    starts = [result.engine_median("start_s") for result in results]
    found.append(Target("seconds from start to the first block", max(starts), MOST_START_S, False))
    if latency is not None:
        found.append(Target("event to decision, p99 in ms", latency.p99_ms, MOST_P99_MS, False))
    return found


def losses(results: Sequence[CaseResult], latency: Latency | None) -> str:
    """What falls short of its target, nothing if all are kept."""
    return "; ".join(target.text() for target in targets(results, latency) if not target.kept)


def last_line(results: Sequence[CaseResult], latency: Latency | None) -> dict[str, Any]:
    """The figures by name; those of more than one million senders end in ``_1m``."""
    line: dict[str, Any] = {}
    for result in results:
        ending = result.case.codec + ("" if result.case.keys < 1_000_000 else "_1m")
        line[f"events_per_s_{ending}"] = round(result.engine_median("events_per_s"))
        line[f"ratio_perf_tool_{ending}"] = round(statistics.median(result.ratios()), 3)
        line[f"cpu_s_per_million_{ending}"] = round(result.engine_median("cpu_s_per_million"), 3)
        line[f"perf_tool_events_per_s_{ending}"] = round(statistics.median(run.events_per_s for run in result.tool))
    line["cpu_s_per_million"] = round(results[0].engine_median("cpu_s_per_million"), 3)
    line["ratio_stock_faust"] = round(faust_ratio(results), 1)
    line["event_to_decision_p99_ms"] = None if latency is None else round(latency.p99_ms, 1)
    line["table_bytes_per_key"] = octets_per_key()[0]
    return line
