"""Replays of the labelled traces, scored from outside: the scorer is a program of its own, and knows nothing of the engine.

The evaluation folder (traces, labels, scorer, causality check) is no part of the project: it lies in
``$TIDEGATE_SHARED/evaluation``, or in ``../shared/evaluation`` beside the clone.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from benchmarks.harness.errors import Broken
from engine.config.load import Settings
from engine.pipeline import build
from topics.decisions import RELEASE, encode_decision
from topics.events import MOST_MESSAGES

SUFFIX = ".events.ndjson.gz"
PREFIX_SHARE = "0.6"  # of a trace's events: what is decided on them must not depend on the others


@dataclass(frozen=True, slots=True)
class Trace:
    """Events, and the labels that nobody but the scorer reads."""

    name: str
    events: Path
    labels: Path


def evaluation_folder() -> Path:
    """Where traces, labels and scorer are; `Broken` if they aren't there."""
    shared = Path(os.environ.get("TIDEGATE_SHARED") or Path(__file__).parents[3] / "shared")
    folder = shared / "evaluation"
    if not (folder / "score.py").is_file():
        raise Broken(f"no scorer in {folder}: set TIDEGATE_SHARED to the folder that holds evaluation/")
    return folder


def traces() -> list[Trace]:
    """The development traces, by name."""
    found = sorted((evaluation_folder() / "traces").glob("dev-*" + SUFFIX))
    return [
        Trace(path.name.removesuffix(SUFFIX), path, path.with_name(path.name.replace(SUFFIX, ".labels.ndjson")))
        for path in found
    ]


def multiplied(trace: Trace, factor: int, folder: Path) -> Trace:
    """The same trace with so many times the messages in each event, written to ``folder``."""
    path = folder / f"{trace.name}-x{factor}{SUFFIX}"
    with gzip.open(trace.events) as source, gzip.open(path, "wb", compresslevel=1) as out:
        for line in source:
            event = orjson.loads(line)
            event["messages"] = min(event.get("messages", 1) * factor, MOST_MESSAGES)
            event.pop("recipients", None)
            out.write(orjson.dumps(event) + b"\n")
    return Trace(f"{trace.name}-x{factor}", path, trace.labels)


def replayed(events: Path, settings: Settings) -> list[bytes]:
    """The decisions on a file of events, as JSON lines."""
    engine = build.replay(settings)
    with gzip.open(events) if events.suffix == ".gz" else events.open("rb") as source:
        return [encode_decision(decision) for found in engine.run(cast(BinaryIO, source)) for decision in found]


def withdrawn(lines: Iterable[bytes]) -> int:
    """How many of the decisions are releases before a throttle's end: what the fleet guard took back."""
    found = (orjson.loads(line) for line in lines)
    return sum(one["verdict"] == RELEASE and one["issued"] < one["until"] for one in found)


def scored(trace: Trace, lines: Iterable[bytes], delay_ms: int, folder: Path) -> Path:
    """The scorer's report on decisions, as a file."""
    decisions, report = folder / "decisions.ndjson", folder / f"{trace.name}.{delay_ms}.json"
    _write(decisions, lines)
    places = [str(trace.events), str(trace.labels), str(decisions)]
    _evaluator("score.py", *places, "--delay", str(delay_ms), "--out", str(report))
    return report


def pooled(reports: list[Path]) -> dict[str, Any]:
    """One row over all traces: shares, and the admitted share and recall of each kind of attack."""
    report = orjson.loads(_evaluator("score.py", "--pool", *map(str, reports)))
    attack, legit = report["attack"], report["legit"]
    return {
        "attack_admitted": attack["admitted_share"],
        "legit_deferred": legit["deferred_share"],
        "mean_kind_admitted": attack["mean_kind_admitted_share"],
        "recall": attack["recall"],
        "legit_with_history_deferred": legit["history_deferred_share"],
        "legit_ips": legit["ips"],
        "legit_ips_ever_deferred": legit["ips_ever_deferred"],
        "kinds": {
            kind: [row["episodes"], row["admitted_share"], row["recall"], row["median_messages_to_first_deferral"]]
            for kind, row in attack["kinds"].items()
        },
        "hard_cases": {kind: row["deferred_share"] for kind, row in report["hard_cases"].items()},
    }


def check_causality(trace: Trace, lines: list[bytes], settings: Settings, folder: Path) -> str:
    """Replay the beginning of a trace alone: what was decided there must not have needed the rest. The check's own words;
    `Broken` if it finds foresight."""
    prefix, whole, part = folder / "prefix.ndjson", folder / "whole.ndjson", folder / "part.ndjson"
    prefix.write_bytes(_evaluator("causal.py", "cut", str(trace.events), PREFIX_SHARE))
    _write(whole, lines)
    _write(part, replayed(prefix, settings))
    return _evaluator("causal.py", "compare", str(whole), str(part), str(prefix)).decode().strip()


def _write(path: Path, lines: Iterable[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def _evaluator(program: str, *arguments: str) -> bytes:
    """What a program of the evaluation folder says; `Broken` if it fails."""
    command = [sys.executable, str(evaluation_folder() / program), *arguments]
    done = subprocess.run(command, check=False, capture_output=True)
    if done.returncode:
        raise Broken(f"{program} {arguments[0]}: {(done.stdout + done.stderr).decode(errors='replace').strip()}")
    return done.stdout
