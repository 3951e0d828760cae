"""Detection on a site that was never seen: a site left out, cold starts, busy relays (`make bench-carryover`).

Needs the evaluation folder (`benchmarks.detection.traces`). *Left out*: the budget that comes closest to the wanted share of
legitimate mail on two sites, applied to the third. *Cold*: each trace started at ten points, scored over the first two days
alone and over everything after. *Relays*: sets of busy relays over six weeks. Shares are of messages, under the default
configuration unless another is named. Other volumes are measured by `benchmarks.detection.evaluate`.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.detection import traces
from benchmarks.detection.traces import SUFFIX, Trace
from benchmarks.harness import command, results
from benchmarks.harness.command import Report, log_progress, new_parser
from benchmarks.harness.traffic import relay_columns, relays
from engine.analysis.simulated_edge import SimulatedEdge
from engine.config.load import Settings, load_settings
from engine.pipeline.build import replay
from topics.decisions import THROTTLE

KEPT = results.FOLDER / "carryover.ndjson"
SITES = ("lore", "eu", "kdent")
BUDGETS = (0.25, 0.35, 0.5, 0.7, 1.0)
WANTED = 0.005
STARTS = 10
COLD_MS = 2 * 86_400_000
RELAYS, RELAY_DAYS, RELAY_SEEDS = 10, 42, range(8)


def settings_of(budget: float = 0.5) -> Settings:
    """Return the default configuration with a budget."""
    return load_settings(None, {}, {"model.sensitivity": f"{budget:g}"})


def report_of(trace: Trace, folder: Path, budget: float = 0.5) -> Path:
    """Write the scorer's report on the decisions for a trace to ``folder``."""
    report = traces.scored(trace, traces.replayed(trace.events, settings_of(budget)), 0, folder)
    return report.rename(folder / f"{trace.name}.{budget}.json")


def left_out(known: list[Trace], folder: Path) -> Iterator[dict[str, Any]]:
    """Return a row for each site: the budget chosen on the others, and its shares there."""
    reports = {(trace.name, budget): report_of(trace, folder, budget) for trace in known for budget in BUDGETS}
    for site in SITES:
        own = [trace.name for trace in known if site in trace.name]
        others = [trace.name for trace in known if site not in trace.name]
        shares = {b: traces.pooled([reports[name, b] for name in others])["legit_deferred"] for b in BUDGETS}
        chosen = min(BUDGETS, key=lambda budget: abs(shares[budget] - WANTED))
        yield {"site": site, "budget": chosen, **traces.pooled([reports[name, chosen] for name in own])}


def begun_at(trace: Trace, start: int, folder: Path) -> Iterator[Trace]:
    """Return a trace from the ``start``th of ten points on: its first two days, and all of it."""
    with gzip.open(trace.events) as source:
        whole = source.readlines()
    with gzip.open(trace.labels.with_name(f"{trace.name}.lines.txt.gz")) as source:
        owners = source.readlines()
    first = len(whole) * start // STARTS
    times_ms = np.array([orjson.loads(line)["ts"] for line in whole[first:]])
    cold_end = first + int(np.searchsorted(times_ms, times_ms[0] + COLD_MS))
    for part, end in (("cold", cold_end), ("all", len(whole))):
        name = f"{trace.name}-{start}-{part}"
        cut = Trace(name, folder / f"{name}{SUFFIX}", folder / f"{name}.labels.ndjson")
        cut.events.write_bytes(gzip.compress(b"".join(whole[first:end]), 1))
        cut.labels.write_bytes(trace.labels.read_bytes())
        cut.labels.with_name(f"{name}.lines.txt.gz").write_bytes(gzip.compress(b"".join(owners[first:end]), 1))
        yield cut


def cold(known: list[Trace], folder: Path) -> Iterator[dict[str, Any]]:
    """Return a row for each trace: all starts pooled, over their first two days and over everything."""
    for trace in known:
        pairs = [[report_of(cut, folder) for cut in begun_at(trace, start, folder)] for start in range(STARTS)]
        early, whole = (traces.pooled([pair[part] for pair in pairs]) for part in (0, 1))
        yield {"trace": trace.name, "legit_deferred_first_two_days": early["legit_deferred"], **whole}


def relays_deferred(seed: int, count: int = RELAYS, days: int = RELAY_DAYS) -> dict[str, Any]:
    """Return the share of a set of relays' mail that an edge without delay defers, of all and of the relay that loses most."""
    columns = relay_columns(relays(seed, count, days))
    decisions = replay(load_settings(None, {}, {"topics.partitions": 1})).decide(columns)
    throttles = [decision for decision in decisions if decision.verdict == THROTTLE]
    edge = SimulatedEdge()
    edge.add(throttles)
    deferred, by_relay = edge.deferred(columns), [columns.key == key for key in np.unique(columns.key)]
    return {
        "seed": seed,
        "messages": int(columns.messages.sum()),
        "held": float(deferred.sum() / columns.messages.sum()),
        "worst": max(float(deferred[own].sum() / columns.messages[own].sum()) for own in by_relay),
        "throttles": len(throttles),
    }


def measure(_given: argparse.Namespace, folder: Path) -> Report:
    """Measure all rows."""
    known = traces.traces()
    kept: dict[str, list[dict[str, Any]]] = {}
    for name, rows in (
        ("left_out", left_out(known, folder)),
        ("cold", cold(known, folder)),
        ("relays", map(relays_deferred, RELAY_SEEDS)),
    ):
        kept[name] = []
        for row in rows:
            kept[name].append(row)
            shown = {column: value for column, value in row.items() if column not in ("kinds", "hard_cases")}
            log_progress(f"{name} {orjson.dumps(shown).decode()}")
    figures = {
        "left_out_legit_deferred": {row["site"]: row["legit_deferred"] for row in kept["left_out"]},
        "cold_legit_deferred": {row["trace"]: row["legit_deferred_first_two_days"] for row in kept["cold"]},
        "relays_deferred": max(row["held"] for row in kept["relays"]),
    }
    return Report(figures, kept)


def main() -> int:
    """Run the command line; return the exit status."""
    return command.run(measure, new_parser(__doc__, KEPT, small=False).parse_args())


if __name__ == "__main__":
    sys.exit(main())
