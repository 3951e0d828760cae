"""The contest's tables and plots in the READMEs, from the last results kept: `python benchmarks/contest/tables.py`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest import plots
from benchmarks.contest.contenders import BY_NAME
from benchmarks.contest.figures import Outcome, losses, median, ratios
from benchmarks.contest.kept import main_name, whole
from benchmarks.contest.key_costs import KeyCost
from benchmarks.contest.open_part import Opened
from benchmarks.contest.process import Run
from benchmarks.contest.recovery import Recovery
from benchmarks.contest.rounds import ENGINE, TOOL, CaseResult
from benchmarks.contest.scaling import Scaling, by_kind, times_one
from benchmarks.contest.sizes import KEPT
from benchmarks.harness.pages import Part
from benchmarks.harness.report import spread

ROOT = Path(__file__).resolve().parents[2]
PAGE, FRONT = ROOT / "benchmarks" / "README.md", ROOT / "README.md"
PLOTS = ROOT / "benchmarks" / "plots"
PART, SUMMARY = Part("contest", "benchmarks/contest/tables.py"), Part("contest summary", "benchmarks/contest/tables.py")
UNMEASURED = (
    "Not measured: more than one machine, or more cores than this one has (`tidegate plan` has a model); replicated topics; "
    "Python contenders in several "
    "processes (their CPU seconds say what more of them would need); exactly-once output of the JVM engines, which they would "
    "pay for; sustained load for hours."
)
DASH = "–"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table; all columns but the first are numbers."""
    for line in (head, ["---"] + ["---:"] * (len(head) - 1), *rows):
        yield f"| {' | '.join(line)} |"


def _main_row(case: CaseResult, name: str) -> list[str]:
    runs = case.runs[name]
    if any(run.complaints for run in runs):
        return [name, "**wrong answer**", *([DASH] * 6)]
    found = ratios(case, name)
    warm = [run.warm_events_per_s for run in runs if run.warm_events_per_s is not None]
    return [
        f"**{name}**" if name == ENGINE else name,
        f"{runs[0].events:,}",
        spread([run.events_per_s for run in runs], 1e3, 0 if runs[0].events_per_s > 2e4 else 1),
        f"{statistics.median(warm) / 1e3:,.0f}" if warm else DASH,
        DASH if name == ENGINE or not found else spread(found),
        spread([run.cpu_s_per_million for run in runs]),
        f"{median(runs, 'rss_most_mb'):,.0f}",
        f"{median(runs, 'start_s'):.1f}" if name != TOOL else DASH,
    ]


def main_table(case: CaseResult) -> Iterator[str]:
    """Everybody on one case."""
    head = [
        "contender",
        "events",
        "thousand events/s",
        "second half",
        "Tidegate is times",
        "CPU s/M",
        "peak MB",
        "start, s",
    ]
    fastest = sorted(case.runs, key=lambda name: -median(case.runs[name], "events_per_s"))
    yield from table(head, [_main_row(case, name) for name in fastest])
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


def grid_table(cases: Sequence[CaseResult]) -> Iterator[str]:
    """The cases that differ in one thing."""
    names = list(dict.fromkeys(name for case in cases for name in case.runs))
    head = ["thousand events/s / CPU s/M", *names, "growth of Tidegate's memory, octets/sender"]
    yield from table(
        head,
        [
            [case.case.name, *(_rates(case.runs.get(name)) for name in names), f"{case.octets_per_key:,.0f}"]
            for case in cases
        ],
    )


def _open_row(each: Opened) -> list[str]:
    found = each.latency
    figures = [DASH] * 5 if found is None else [
        f"{found.rate:,}", *(f"{ms:,.1f}" for ms in (found.p50_ms, found.p99_ms, found.p999_ms, found.most_ms))
    ]  # fmt: skip
    caught = DASH if each.catch_up_s is None else f"{each.catch_up_s:.1f}"
    return [each.name, f"{each.sustainable:,}" if each.sustainable else "none of the levels", *figures, caught]


def open_table(opened: Sequence[Opened]) -> Iterator[str]:
    """Under open load."""
    head = [
        "open load",
        "bears, events/s",
        "latency at",
        "p50, ms",
        "p99",
        "p99.9",
        "most",
        "behind: caught up after, s",
    ]
    yield from table(head, [_open_row(each) for each in opened])


def recovery_table(recoveries: Sequence[Recovery]) -> Iterator[str]:
    """Coming back."""
    sizes = sorted({each.keys for each in recoveries})
    found = {(each.name, each.keys): each for each in recoveries}
    rows = []
    for name in dict.fromkeys(each.name for each in recoveries):
        mine = [found.get((name, keys)) for keys in sizes]
        empty = statistics.median(each.empty_s for each in mine if each is not None)
        rows.append([name, f"{empty:.1f}", *(DASH if each is None else f"{each.restored_s:.1f}" for each in mine)])
    yield from table(["start to first event, s", "empty", *(f"{keys:,} senders" for keys in sizes)], rows)


def key_table(costs: Sequence[KeyCost]) -> Iterator[str]:
    """Against the number of senders."""
    head = [
        "senders, all known",
        "thousand events/s",
        "CPU s/M",
        "while they come",
        "kernel alone, µs",
        "octets a sender: table",
        "state",
        "process grew by",
        "process at most",
    ]
    yield from table(
        head,
        [
            [
                f"{each.keys:,}",
                f"{each.events_per_s / 1e3:,.0f}",
                *(f"{cost:.2f}" for cost in (each.cpu_s_per_million, each.first_cpu_s_per_million)),
                f"{each.kernel_us:.3f}",
                *(f"{octets:,.0f}" for octets in (each.table_octets, each.state_octets)),
                *(f"{octets:,.0f}" for octets in (each.rss_growth_octets, each.rss_most_octets)),
            ]
            for each in costs
        ],
    )


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


def scaling_table(scaled: Sequence[Scaling]) -> Iterator[str]:
    """Several workers."""
    head = ["workers", "standbys", "thousand events/s", "times one worker", "CPU s/M", "peak MB", "M events of each"]
    yield from table(head, [_scaling_row(scaled, kind, runs) for kind, runs in by_kind(scaled).items()])


def lines(kept: dict[str, Any]) -> Iterator[str]:
    """All of a result, Markdown, line by line."""
    outcome, stamps = Outcome.from_dict(kept), kept.get("stamps", {})
    yield (
        f"{stamped(kept['machine'])} Median (least–most) of {kept['sizes']['rounds']} rounds. "
        f"Answers: {kept['figures']['answer']}."
    )
    main = [case for case in outcome.cases if len(case.runs) and case.case.name == main_name(kept)]
    grid = [case for case in outcome.cases if case not in main]
    parts = {
        "throughput": main_table(main[0]) if main else (),
        "grid": grid_table(grid) if grid else (),
        "keys": key_table(outcome.key_costs) if outcome.key_costs else (),
        "open": open_table(outcome.opened) if outcome.opened else (),
        "recovery": recovery_table(outcome.recoveries) if outcome.recoveries else (),
        "scaling": scaling_table(outcome.scaled) if outcome.scaled else (),
    }
    for name, part in parts.items():
        if part:
            yield ""
            if name in stamps:
                yield f"By itself, {stamped(stamps[name])}\n"
            yield from part
    yield "\nLosses: " + ("; ".join(losses(outcome)) or "none") + "."
    yield f"\n{UNMEASURED}"


def stamped(machine: dict[str, Any]) -> str:
    """When, of which commit and on what."""
    return (
        f"{machine['time'][:10]}, commit {machine['commit']}: {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gb']:.0f} GB, {machine['kernel']}; Python {machine['python']}, Kafka {machine['kafka']}, Java "
        f"{machine['java']}; load before the run {machine['load_before']}."
    )


def summary(kept: dict[str, Any]) -> Iterator[str]:
    """A few rows for the front page."""
    case = next((case for case in Outcome.from_dict(kept).cases if case.case.name == main_name(kept)), None)
    if case is None:
        return
    head = ["", "thousand events/s", "CPU s/M", "peak MB"]
    rows = []
    for name in sorted(case.runs, key=lambda name: -median(case.runs[name], "events_per_s")):
        runs = case.runs[name]
        if any(run.complaints for run in runs):
            continue
        rate = spread([run.events_per_s for run in runs], 1e3, 0 if runs[0].events_per_s > 2e4 else 1)
        about = f" ({BY_NAME[name].about})" if name in BY_NAME else ""
        rows.append(
            [name + about, rate, f"{median(runs, 'cpu_s_per_million'):.2f}", f"{median(runs, 'rss_most_mb'):,.0f}"]
        )
    yield from table(head, rows)


def between(part: Part, kept: dict[str, Any] | None) -> str:
    """What stands between a part's marks."""
    if kept is None:
        said = ["No full run has been kept yet: `make bench`."]
    elif part == SUMMARY:
        said = list(summary(kept))
    else:
        drawn = plots.charts(Outcome.from_dict(kept), main_name(kept))
        said = [*lines(kept), "", *(f"![{chart.title}](plots/{name})" for name, chart in drawn.items())]
    return "\n".join(["", "", *said, "", ""])


def write() -> None:
    """Bring both pages and the plots up to the last result."""
    kept = whole(KEPT)
    if kept is not None:
        plots.draw(Outcome.from_dict(kept), main_name(kept), PLOTS)
    PART.write(PAGE, between(PART, kept))
    SUMMARY.write(FRONT, between(SUMMARY, kept))


if __name__ == "__main__":
    write()
