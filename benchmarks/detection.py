"""How right the engine is: decisions on labelled replays of real mail, scored from outside.

    python benchmarks/detection.py [--thresholds 0.5,1,2] [--partitions 1,4,8] [--through-kafka]

Needs the evaluation folder (traces, labels, scorer) in ``$TIDEGATE_SHARED`` or ``../shared``. Every trace is replayed, its
decisions scored without delay and with the one given, and all traces pooled. ``--through-kafka`` also sends each trace
through a worker on an embedded broker and holds its decisions to the replay's, byte for byte.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from benchmarks import results
from benchmarks.cluster import published
from benchmarks.errors import Broken
from benchmarks.machine import stamp
from benchmarks.traces import Kafka
from engine.assembly import composer, partition
from engine.config import Settings, load_settings
from engine.local import EmbeddedBroker
from engine.replay import Replay
from topics.decisions import encode_decision

DELAY_MS = 250
OUT = results.FOLDER / "detection.ndjson"


def evaluation_folder() -> Path:
    """Where traces, labels and scorer are; `Broken` if they aren't there."""
    shared = Path(os.environ.get("TIDEGATE_SHARED") or Path(__file__).parents[2] / "shared")
    folder = shared / "evaluation"
    if not (folder / "score.py").is_file():
        raise Broken(f"no scorer in {folder}: set TIDEGATE_SHARED to the folder that holds evaluation/")
    return folder


def replayed(trace: Path, settings: Settings) -> list[bytes]:
    """The decisions on a trace, as JSON lines."""
    parts = [partition(settings, number) for number in range(settings.topics.partitions)]
    engine = Replay(parts, composer(settings))
    with gzip.open(trace) as source:
        return [encode_decision(decision) for found in engine.run(cast(BinaryIO, source)) for decision in found]


def scored(trace: Path, lines: Iterable[bytes], delay_ms: int, folder: Path) -> Path:
    """The scorer's report on decisions, as a file."""
    decisions, report = folder / "decisions.ndjson", folder / f"{trace.name}.{delay_ms}.json"
    decisions.write_bytes(b"".join(line + b"\n" for line in lines))
    labels = trace.with_name(trace.name.replace(".events.ndjson.gz", ".labels.ndjson"))
    scorer = [sys.executable, str(evaluation_folder() / "score.py")]
    command = [*scorer, str(trace), str(labels), str(decisions), "--delay", str(delay_ms), "--out", str(report)]
    subprocess.run(command, check=True, capture_output=True)
    return report


def pooled(reports: list[Path]) -> dict[str, Any]:
    """One row over all traces: shares, and the admitted share of each kind of attack."""
    command = [sys.executable, str(evaluation_folder() / "score.py"), "--pool", *map(str, reports)]
    report = orjson.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    attack, legit = report["attack"], report["legit"]
    return {
        "attack_admitted": attack["admitted_share"],
        "kinds_admitted": attack["mean_kind_admitted_share"],
        "recall": attack["recall"],
        "legit_deferred": legit["deferred_share"],
        "history_deferred": legit["history_deferred_share"],
        "legit_ips_ever_deferred": legit["ips_ever_deferred"],
        "kinds": {kind: [row["admitted_share"], row["recall"]] for kind, row in attack["kinds"].items()},
        "hard_cases": {kind: row["deferred_share"] for kind, row in report["hard_cases"].items()},
    }


def measure(threshold: float, partitions: int, traces: list[Path], folder: Path) -> list[dict[str, Any]]:
    """Rows for one setting: without delay, and with `DELAY_MS`."""
    settings = load_settings(None, {}, {"model.threshold": threshold, "topics.partitions": partitions})
    reports: dict[int, list[Path]] = {0: [], DELAY_MS: []}
    for trace in traces:
        lines = replayed(trace, settings)
        for delay_ms, found in reports.items():
            found.append(scored(trace, lines, delay_ms, folder))
    return [
        {"threshold": threshold, "partitions": partitions, "delay_ms": delay_ms, **pooled(found)}
        for delay_ms, found in reports.items()
    ]


def compare_through_kafka(traces: list[Path], partitions: list[int], folder: Path) -> list[dict[str, Any]]:
    """Send every trace through Kafka and a worker; `Broken` unless the decisions are the replay's."""
    rows = []
    with EmbeddedBroker(folder / "broker") as broker:
        for count in partitions:
            for trace in traces:
                run = Kafka(broker.bootstrap, f"{trace.name.split('.')[0]}-{count}-", count, folder)
                events = run.play(trace)
                theirs = {text for _, text in published(run.place)}
                ours = set(replayed(trace, load_settings(None, run.environment, {})))
                if theirs != ours:
                    raise Broken(f"{trace.name} at {count} partitions: {len(theirs ^ ours)} decisions differ")
                rows.append({"trace": trace.name, "partitions": count, "events": events, "decisions": len(ours)})
                _say(
                    f"{trace.name}: {events:,} events through Kafka at {count} partitions, {len(ours)} decisions, the same"
                )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| T | partitions | delay | attack admitted | mean over kinds | episodes detected | legit deferred | with history |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['threshold']:g} | {row['partitions']} | {row['delay_ms']} ms | {row['attack_admitted']:.1%} "
        f"| {row['kinds_admitted']:.1%} | {row['recall']:.1%} | {row['legit_deferred']:.2%} | {row['history_deferred']:.2%} |"
        for row in rows
    ]
    return "\n".join(lines)


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",")]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print the table, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thresholds", type=_numbers, default=[0.5, 1.0, 2.0])
    parser.add_argument("--partitions", type=_numbers, default=[1, 4, 8])
    parser.add_argument("--through-kafka", action="store_true", help="also hold a worker on Kafka to the replay")
    parser.add_argument("--out", type=Path, default=OUT, help="where the result is appended")
    options = parser.parse_args()
    partitions = [int(count) for count in options.partitions]
    traces = sorted((evaluation_folder() / "traces").glob("*.events.ndjson.gz"))
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings = [(threshold, count) for count in partitions for threshold in options.thresholds]
        rows = []
        for threshold, count in settings:
            rows += measure(threshold, count, traces, folder)
            _say(f"T = {threshold:g}, {count} partitions: scored ({time.monotonic() - started_s:.0f} s)")
        through = compare_through_kafka(traces, [1, 8], folder) if options.through_kafka else []
    print(table(rows))
    results.keep({"machine": stamp(), "rows": rows, "through_kafka": through}, options.out)


if __name__ == "__main__":
    main()
