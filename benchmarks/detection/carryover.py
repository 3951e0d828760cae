"""What becomes of detection on a site never seen: a site left out, cold starts, busy relays.

    make bench-carryover

Needs the evaluation folder (`benchmarks.detection.traces`). *Left out*: the budget that comes nearest to the wanted share of
legitimate mail on two sites, tried on the third. *Cold*: each trace begun at ten points, scored over the first two days alone
and over all that follows. *Relays*: sets of busy relays over six weeks. Shares are of messages, of the decisions of the
default configuration where nothing else is said. Other volumes are a matter of `benchmarks.detection.evaluate`.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.detection import traces as scoring
from benchmarks.detection.traces import SUFFIX, Trace
from benchmarks.harness import results
from benchmarks.harness.machine import stamp
from benchmarks.harness.relays import columns_of, held_back, relays
from engine.config.load import Settings, load_settings
from engine.detector.verdict import THROTTLE
from engine.pipeline.build import partition

OUT = results.FOLDER / "carryover.ndjson"
SITES = ("lore", "eu", "kdent")
BUDGETS = (0.25, 0.35, 0.5, 0.7, 1.0)
WANTED = 0.005
STARTS = 10
COLD_MS = 2 * 86_400_000
RELAYS, RELAY_DAYS, RELAY_SEEDS = 10, 42, range(8)


def settings_of(budget: float = 0.5) -> Settings:
    """The default configuration, or one with another budget."""
    return load_settings(None, {}, {"model.sensitivity": f"{budget:g}"})


def report_of(trace: Trace, folder: Path, budget: float = 0.5) -> Path:
    """The scorer's report on the decisions for a trace; it is kept in ``folder``."""
    report = scoring.scored(trace, scoring.replayed(trace.events, settings_of(budget)), 0, folder)
    return report.rename(folder / f"{trace.name}.{budget}.json")


def left_out(traces: list[Trace], folder: Path) -> Iterator[dict[str, Any]]:
    """A row a site: the budget chosen on the others, and what it gives there."""
    reports = {(trace.name, budget): report_of(trace, folder, budget) for trace in traces for budget in BUDGETS}
    for site in SITES:
        own = [trace.name for trace in traces if site in trace.name]
        others = [trace.name for trace in traces if site not in trace.name]
        shares = {b: scoring.pooled([reports[name, b] for name in others])["legit_deferred"] for b in BUDGETS}
        chosen = min(BUDGETS, key=lambda budget: abs(shares[budget] - WANTED))
        yield {"site": site, "budget": chosen, **scoring.pooled([reports[name, chosen] for name in own])}


def begun_at(trace: Trace, start: int, folder: Path) -> Iterator[Trace]:
    """A trace from the ``start``th of ten points on: its first two days, and all of it."""
    with gzip.open(trace.events) as source:
        whole = source.readlines()
    with gzip.open(trace.labels.with_name(f"{trace.name}.lines.txt.gz")) as source:
        owners = source.readlines()
    first = len(whole) * start // STARTS
    times = np.array([orjson.loads(line)["ts"] for line in whole[first:]])
    for part, last in (("cold", first + int(np.searchsorted(times, times[0] + COLD_MS))), ("all", len(whole))):
        name = f"{trace.name}-{start}-{part}"
        cut = Trace(name, folder / f"{name}{SUFFIX}", folder / f"{name}.labels.ndjson")
        cut.events.write_bytes(gzip.compress(b"".join(whole[first:last]), 1))
        cut.labels.write_bytes(trace.labels.read_bytes())
        cut.labels.with_name(f"{name}.lines.txt.gz").write_bytes(gzip.compress(b"".join(owners[first:last]), 1))
        yield cut


def cold(traces: list[Trace], folder: Path) -> Iterator[dict[str, Any]]:
    """A row a trace: all starts pooled, over their first two days and over everything."""
    for trace in traces:
        pairs = [[report_of(cut, folder) for cut in begun_at(trace, start, folder)] for start in range(STARTS)]
        early, whole = (scoring.pooled([pair[part] for pair in pairs]) for part in (0, 1))
        yield {"trace": trace.name, "legit_deferred_first_two_days": early["legit_deferred"], **whole}


def relays_held(seed: int, count: int = RELAYS, days: int = RELAY_DAYS) -> dict[str, Any]:
    """Share of a set of relays' mail that is held back, of all and of the one that loses most."""
    columns = columns_of(relays(seed, count, days))
    verdicts = partition(load_settings(None, {}, {"topics.partitions": 1}), 0).apply(columns, 0, len(columns.offset))
    throttles = verdicts[verdicts["kind"] == THROTTLE]
    held, of = held_back(columns, throttles), [columns.key == key for key in np.unique(columns.key)]
    return {
        "seed": seed,
        "messages": int(columns.messages.sum()),
        "held": float(held.sum() / columns.messages.sum()),
        "worst": max(float(held[own].sum() / columns.messages[own].sum()) for own in of),
        "throttles": len(throttles),
    }


def main() -> None:
    """Measure, print a row a line, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="where the result is appended")
    options, traces = parser.parse_args(), scoring.traces()
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, rows in (
            ("left_out", left_out(traces, Path(scratch))),
            ("cold", cold(traces, Path(scratch))),
            ("relays", map(relays_held, RELAY_SEEDS)),
        ):
            found[name] = []
            for row in rows:
                found[name].append(row)
                said = {key: value for key, value in row.items() if key not in ("kinds", "hard_cases")}
                print(name, orjson.dumps(said).decode(), flush=True)
    results.keep({"machine": stamp(), **found}, options.out)


if __name__ == "__main__":
    main()
