"""Labelled traces: replayed, then scored by a program of its own that knows nothing of the engine.

The evaluation folder (traces, labels, scorer, causality check) is no part of the project. It is in
``$TIDEGATE_SHARED/evaluation``, by default in ``../shared/evaluation`` next to the clone.
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

from benchmarks.harness.errors import Broken, WrongAnswer
from benchmarks.harness.results import ROOT
from engine.config.load import Settings
from engine.pipeline import build
from topics.decisions import RELEASE, encode_decision
from topics.events import MAX_MESSAGES

SUFFIX = ".events.ndjson.gz"
PREFIX_SHARE = "0.6"  # of a trace's events: decisions on them must not depend on the others


@dataclass(frozen=True, slots=True)
class Trace:
    """Events, and their labels, which only the scorer reads."""

    name: str
    events: Path
    labels: Path


def evaluation_folder() -> Path:
    """Return the folder of traces, labels and scorer; `Broken` if it is missing."""
    shared = Path(os.environ.get("TIDEGATE_SHARED") or ROOT.parent / "shared")
    folder = shared / "evaluation"
    if not (folder / "score.py").is_file():
        raise Broken(f"no scorer in {folder}: set TIDEGATE_SHARED to the folder that holds evaluation/")
    return folder


def traces() -> list[Trace]:
    """Return the development traces, by name."""
    found = sorted((evaluation_folder() / "traces").glob("dev-*" + SUFFIX))
    return [
        Trace(path.name.removesuffix(SUFFIX), path, path.with_name(path.name.replace(SUFFIX, ".labels.ndjson")))
        for path in found
    ]


def multiplied(trace: Trace, factor: int, folder: Path) -> Trace:
    """Write the same trace with ``factor`` times the messages in each event to ``folder``."""
    path = folder / f"{trace.name}-x{factor}{SUFFIX}"
    with gzip.open(trace.events) as source, gzip.open(path, "wb", compresslevel=1) as out:
        for line in source:
            event = orjson.loads(line)
            event["messages"] = min(event.get("messages", 1) * factor, MAX_MESSAGES)
            event.pop("recipients", None)
            out.write(orjson.dumps(event) + b"\n")
    return Trace(f"{trace.name}-x{factor}", path, trace.labels)


def replayed(events: Path, settings: Settings) -> list[bytes]:
    """Return the decisions on a file of events, as JSON lines."""
    engine = build.replay(settings)
    with gzip.open(events) if events.suffix == ".gz" else events.open("rb") as source:
        return [encode_decision(decision) for found in engine.run(cast(BinaryIO, source)) for decision in found]


def withdrawn(lines: Iterable[bytes]) -> int:
    """Return how many decisions are releases before a throttle's end: those that the circuit breaker withdrew."""
    found = (orjson.loads(line) for line in lines)
    return sum(each["verdict"] == RELEASE and each["issued"] < each["until"] for each in found)


def scored(trace: Trace, lines: Iterable[bytes], delay_ms: int, folder: Path) -> Path:
    """Write the scorer's report on decisions that reach the edge ``delay_ms`` late; return its path."""
    decisions, report = folder / "decisions.ndjson", folder / f"{trace.name}.{delay_ms}.json"
    _write(decisions, lines)
    paths = [str(trace.events), str(trace.labels), str(decisions)]
    _evaluator("score.py", *paths, "--delay", str(delay_ms), "--out", str(report))
    return report


def pooled(reports: list[Path]) -> dict[str, Any]:
    """Return one row over all traces: shares, and the admitted share and recall of each kind of attack."""
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


def pooled_row(settings: Settings, folder: Path) -> dict[str, Any]:
    """Return the row over all traces of one configuration."""
    return pooled([scored(trace, replayed(trace.events, settings), 0, folder) for trace in traces()])


def check_causality(trace: Trace, lines: list[bytes], settings: Settings, folder: Path) -> str:
    """Replay the beginning of a trace alone and compare its decisions with those of the whole trace.

    Returns the check's own words. Raises `WrongAnswer` if a decision needed later events.
    """
    prefix, whole, part = folder / "prefix.ndjson", folder / "whole.ndjson", folder / "part.ndjson"
    prefix.write_bytes(_evaluator("causal.py", "cut", str(trace.events), PREFIX_SHARE))
    _write(whole, lines)
    _write(part, replayed(prefix, settings))
    return _evaluator("causal.py", "compare", str(whole), str(part), str(prefix)).decode().strip()


def _write(path: Path, lines: Iterable[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def _evaluator(program: str, *arguments: str) -> bytes:
    """Return the output of a program of the evaluation folder; `WrongAnswer` if it fails."""
    command = [sys.executable, str(evaluation_folder() / program), *arguments]
    done = subprocess.run(command, check=False, capture_output=True)
    if done.returncode:
        raise WrongAnswer(f"{program} {arguments[0]}: {(done.stdout + done.stderr).decode(errors='replace').strip()}")
    return done.stdout
