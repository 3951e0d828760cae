"""The answer that a run must give: every event counted once, and the decisions of `tidegate replay` on the same events.

Complaints are one line each; none means that the answer is right.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from benchmarks.harness.cluster import Place, published, saved_counts
from benchmarks.harness.errors import Broken
from benchmarks.harness.worker import COMMAND, EngineRun
from benchmarks.harness.workload import Chunked

NEVER = ("late", "poison", "untracked", "miskeyed", "slow")  # the workload has none of these
Published = tuple[bytes, bytes]


def replayed(place: Place, workload: Chunked, folder: Path) -> list[Published]:
    """What `tidegate replay` decides on the workload with the place's settings, as (network, JSON)."""
    out = folder / "replayed.ndjson"
    process = subprocess.Popen(
        [*COMMAND, "replay", "-", "--decisions", str(out)],
        cwd=folder, env=place.environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        for text in workload.chunks():
            process.stdin.write(text)
        process.stdin.close()
        complaint = process.stderr.read().decode()
    finally:
        process.stdin.close()
        status = process.wait()
    if status:
        raise Broken(f"tidegate replay ended with status {status}: {complaint}")
    return [(str(orjson.loads(line)["network"]).encode(), line) for line in out.read_bytes().splitlines()]


def complaints(place: Place, run: EngineRun, events: int, expected: Iterable[Published]) -> list[str]:
    """What is wrong with a run over ``events`` whose decisions should be the ``expected`` ones."""
    counts = {"events read": run.events, "events counted": run.counts["events"]}
    saved = saved_counts(place)
    counts["events in the changelog"] = saved["events"]
    found = [f"{name}: {count:,} instead of {events:,}" for name, count in counts.items() if count != events]
    found += [f"{name}: {run.counts[name]:,} instead of 0" for name in NEVER if run.counts[name]]
    if saved["keys"] != run.keys:
        found.append(f"keys in the changelog: {saved['keys']:,} instead of {run.keys:,}")
    return found + differences(Counter(published(place)), Counter(expected))


def differences(got: Mapping[Published, int], wanted: Mapping[Published, int]) -> list[str]:
    """One line for all that differs; agreement on nothing is none."""
    if got == wanted:
        return [] if wanted else ["nothing was decided: the workload is too small to compare decisions"]
    missing, extra = Counter(wanted) - Counter(got), Counter(got) - Counter(wanted)
    example = next(iter(missing or extra))[1].decode()
    return [f"decisions: {missing.total():,} of the replay's missing, {extra.total():,} others, such as {example}"]
