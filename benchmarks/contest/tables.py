"""The contest's tables and plots in the READMEs, from the latest results: `python -m benchmarks.contest.tables`."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.contest import plots
from benchmarks.contest.contenders import BY_NAME
from benchmarks.contest.figures import Outcome, losses, main_name, median, ratios, whole
from benchmarks.contest.key_costs import KeyCost
from benchmarks.contest.open_part import Opened
from benchmarks.contest.process import Run
from benchmarks.contest.recovery import Recovery
from benchmarks.contest.rounds import ENGINE, TOOL, CaseResult
from benchmarks.contest.scaling import Scaling, by_kind, times_one
from benchmarks.contest.sizes import KEPT
from benchmarks.harness.results import ROOT, GeneratedPart, spread, table

PAGE, FRONT = ROOT / "benchmarks" / "README.md", ROOT / "README.md"
PLOTS = ROOT / "benchmarks" / "plots"
COMMAND = "benchmarks/contest/tables.py"
PART, SUMMARY = GeneratedPart("contest", COMMAND), GeneratedPart("contest summary", COMMAND)
UNMEASURED = (
    "Not measured: more than one machine, or more cores than this one has (`tidegate plan` has a model); replicated topics; "
    "Python contenders in several processes (their CPU seconds show what more of them would need); exactly-once output of the "
    "JVM engines, which would cost them more; sustained load for hours."
)
DASH = "–"
MAIN_HEAD = "contender | events | thousand events/s | second half | Tidegate is times | CPU s/M | peak MB | start, s"
OPEN_HEAD = "open load | sustains, events/s | latency at | p50, ms | p99 | p99.9 | maximum | lag: caught up after, s"
KEY_HEAD = (
    "senders, all known | thousand events/s | CPU s/M | while they come | kernel alone, µs | bytes a sender: table | state"
    " | process grew by | process at most"
)
SCALING_HEAD = "workers | standbys | thousand events/s | times one worker | CPU s/M | peak MB | M events of each"


def _rate(runs: Sequence[Run]) -> str:
    return spread([run.events_per_s for run in runs], 1e3, 0 if runs[0].events_per_s > 2e4 else 1)


def _main_row(case: CaseResult, name: str) -> list[str]:
    runs = case.runs[name]
    if any(run.complaints for run in runs):
        return [name, "**wrong answer**", *([DASH] * 6)]
    found = ratios(case, name)
    warm = [run.warm_events_per_s for run in runs if run.warm_events_per_s is not None]
    return [
        f"**{name}**" if name == ENGINE else name,
        f"{runs[0].events:,}",
        _rate(runs),
        f"{statistics.median(warm) / 1e3:,.0f}" if warm else DASH,
        DASH if name == ENGINE or not found else spread(found),
        spread([run.cpu_s_per_million for run in runs]),
        f"{median(runs, 'rss_most_mb'):,.0f}",
        f"{median(runs, 'start_s'):.1f}" if name != TOOL else DASH,
    ]


def fastest_first(case: CaseResult) -> list[str]:
    """Return the names of a case's contenders."""
    return sorted(case.runs, key=lambda name: -median(case.runs[name], "events_per_s"))


def main_table(case: CaseResult) -> Iterator[str]:
    """Return the table of all contenders on one case."""
    yield from table(MAIN_HEAD, [_main_row(case, name) for name in fastest_first(case)])
    if case.kernels:
        rates = [each["events_per_s"] for each in case.kernels]
        yield f"\nFloor: Tidegate's kernels alone, on blocks in memory, one thread: {spread(rates, 1e3, 0)} thousand events/s."
    for name, why in case.skipped.items():
        yield f"\nLeft out: {name}: {why}."


def _rates(runs: Sequence[Run] | None) -> str:
    if not runs:
        return DASH
    if any(run.complaints for run in runs):
        return "**wrong**"
    return f"{median(runs, 'events_per_s') / 1e3:,.0f} / {median(runs, 'cpu_s_per_million'):.2f}"


def grid_table(cases: Sequence[CaseResult]) -> list[str]:
    """Return the table of the cases that differ in one thing."""
    names = list(dict.fromkeys(name for case in cases for name in case.runs))
    head = ["thousand events/s / CPU s/M", *names, "growth of Tidegate's memory, bytes/sender"]
    rows = [
        [case.case.name, *(_rates(case.runs.get(name)) for name in names), f"{case.bytes_per_key:,.0f}"]
        for case in cases
    ]
    return table(" | ".join(head), rows)


def _open_row(each: Opened) -> list[str]:
    figures, found = [DASH] * 5, each.latency
    if found is not None:
        percentiles = (found.p50_ms, found.p99_ms, found.p999_ms, found.most_ms)
        figures = [f"{found.rate:,}", *(f"{ms:,.1f}" for ms in percentiles)]
    caught = DASH if each.catch_up_s is None else f"{each.catch_up_s:.1f}"
    return [each.name, f"{each.sustainable:,}" if each.sustainable else "none of the levels", *figures, caught]


def recovery_table(recoveries: Sequence[Recovery]) -> list[str]:
    """Return the table of restarts."""
    sizes = sorted({each.keys for each in recoveries})
    found = {(each.name, each.keys): each for each in recoveries}
    rows = []
    for name in dict.fromkeys(each.name for each in recoveries):
        mine = [found.get((name, keys)) for keys in sizes]
        empty = statistics.median(each.empty_s for each in mine if each is not None)
        rows.append([name, f"{empty:.1f}", *(DASH if each is None else f"{each.restored_s:.1f}" for each in mine)])
    return table(" | ".join(["start to first event, s", "empty", *(f"{keys:,} senders" for keys in sizes)]), rows)


def _key_row(each: KeyCost) -> list[str]:
    sizes = (each.table_bytes, each.state_bytes, each.rss_growth_bytes, each.rss_most_bytes)
    costs = (each.cpu_s_per_million, each.first_cpu_s_per_million)
    middle = [f"{each.events_per_s / 1e3:,.0f}", *(f"{cost:.2f}" for cost in costs), f"{each.kernel_us:.3f}"]
    return [f"{each.keys:,}", *middle, *(f"{size:,.0f}" for size in sizes)]


def _scaling_row(scaled: Sequence[Scaling], kind: tuple[int, int], runs: Sequence[Scaling]) -> list[str]:
    workers, standbys = kind
    if any(run.complaints for run in runs):
        return [f"{workers}", f"{standbys}", "**wrong answer**", *([DASH] * 4)]
    return [
        f"{workers}",
        f"{standbys}",
        spread([run.events_per_s for run in runs], 1e3, 0),
        spread(times_one(scaled, kind, "events_per_s")),
        spread([run.cpu_s_per_million for run in runs]),
        " + ".join(f"{statistics.median(each):,.0f}" for each in zip(*(run.rss_most_mb for run in runs), strict=True)),
        " + ".join(f"{share / 1e6:.2f}" for share in runs[-1].shares),
    ]


def lines(kept: dict[str, Any]) -> Iterator[str]:
    """Return all tables of a result, Markdown, line by line."""
    outcome, machines = Outcome.from_dict(kept), kept.get("machines", {})
    rounds, answers = kept["sizes"]["rounds"], kept["figures"]["answer"]
    yield f"{machine_line(kept['machine'])} Median (least–most) of {rounds} rounds. Answers: {answers}."
    main = [case for case in outcome.cases if len(case.runs) and case.case.name == main_name(kept)]
    grid = [case for case in outcome.cases if case not in main]
    scaled = by_kind(outcome.scaled)
    parts = {
        "throughput": main_table(main[0]) if main else (),
        "grid": grid_table(grid) if grid else (),
        "keys": table(KEY_HEAD, [_key_row(each) for each in outcome.key_costs]) if outcome.key_costs else (),
        "open": table(OPEN_HEAD, [_open_row(each) for each in outcome.opened]) if outcome.opened else (),
        "recovery": recovery_table(outcome.recoveries) if outcome.recoveries else (),
        "scaling": table(SCALING_HEAD, [_scaling_row(outcome.scaled, *each) for each in scaled.items()])
        if scaled
        else (),
    }
    for name, part in parts.items():
        if part:
            yield ""
            if name in machines:
                yield f"Measured alone, {machine_line(machines[name])}\n"
            yield from part
    yield "\nLosses: " + ("; ".join(losses(outcome)) or "none") + "."
    yield f"\n{UNMEASURED}"


def machine_line(machine: dict[str, Any]) -> str:
    """Return date, commit, machine and versions of a result."""
    return (
        f"{machine['time'][:10]}, commit {machine['commit']}: {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gb']:.0f} GB, {machine['kernel']}; Python {machine['python']}, Kafka {machine['kafka']}, Java "
        f"{machine['java']}; load before the run {machine['load_before']}."
    )


def summary(kept: dict[str, Any]) -> list[str]:
    """Return the front page's table."""
    case = next((case for case in Outcome.from_dict(kept).cases if case.case.name == main_name(kept)), None)
    if case is None:
        return []
    rows = []
    for name in fastest_first(case):
        runs = case.runs[name]
        if not any(run.complaints for run in runs):
            about = f" ({BY_NAME[name].about})" if name in BY_NAME else ""
            cost, memory = f"{median(runs, 'cpu_s_per_million'):.2f}", f"{median(runs, 'rss_most_mb'):,.0f}"
            rows.append([name + about, _rate(runs), cost, memory])
    return table(" | thousand events/s | CPU s/M | peak MB", rows)


def between(part: GeneratedPart, kept: dict[str, Any] | None) -> str:
    """Return the text between a part's marks."""
    if kept is None:
        found = ["No full run has been kept yet: `make bench`."]
    elif part == SUMMARY:
        found = summary(kept)
    else:
        drawn = plots.charts(Outcome.from_dict(kept), main_name(kept))
        found = [*lines(kept), "", *(f"![{chart.title}](plots/{name})" for name, chart in drawn.items())]
    return "\n".join(["", "", *found, "", ""])


def write() -> None:
    """Update both pages and the plots from the latest result."""
    kept = whole(KEPT)
    if kept is not None:
        plots.draw(Outcome.from_dict(kept), main_name(kept), PLOTS)
    PART.write(PAGE, between(PART, kept))
    SUMMARY.write(FRONT, between(SUMMARY, kept))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    write()
