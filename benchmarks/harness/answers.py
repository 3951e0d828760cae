"""The right answer to a run of the engine: every event counted once, and the decisions of `tidegate replay` on the same events.

Complaints are one line each; a right answer has none.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from benchmarks.harness.errors import Broken
from benchmarks.harness.topic_space import Chunked, TopicSpace, published, saved_counts
from benchmarks.harness.worker import COMMAND, EngineRun

NEVER = ("late", "poison", "untracked", "miskeyed", "slow")  # no traffic has these
Published = tuple[bytes, bytes]  # network, JSON


def replayed(space: TopicSpace, events: Chunked, folder: Path) -> list[Published]:
    """Return the decisions of `tidegate replay` on the events with the space's settings."""
    out = folder / "replayed.ndjson"
    process = subprocess.Popen(
        [*COMMAND, "replay", "-", "--decisions", str(out)],
        cwd=folder, env=space.environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        for text in events.chunks():
            process.stdin.write(text)
        process.stdin.close()
        complaint = process.stderr.read().decode()
    finally:
        process.stdin.close()
        status = process.wait()
    if status:
        raise Broken(f"tidegate replay ended with status {status}: {complaint}")
    return [(str(orjson.loads(line)["network"]).encode(), line) for line in out.read_bytes().splitlines()]


def complaints(space: TopicSpace, run: EngineRun, events: int, expected: Iterable[Published]) -> list[str]:
    """Return what is wrong with a run over ``events`` whose decisions should be the ``expected`` ones."""
    saved = saved_counts(space)
    counts = {"events read": run.events, "events counted": run.counts["events"]}
    counts["events in the changelog"] = saved["events"]
    found = [f"{name}: {count:,} instead of {events:,}" for name, count in counts.items() if count != events]
    found += [f"{name}: {run.counts[name]:,} instead of 0" for name in NEVER if run.counts[name]]
    if saved["keys"] != run.keys:
        found.append(f"keys in the changelog: {saved['keys']:,} instead of {run.keys:,}")
    return found + differences(Counter(published(space)), Counter(expected))


def differences(got: Mapping[Published, int], wanted: Mapping[Published, int]) -> list[str]:
    """Return one line for all decisions that differ. No decisions at all are a complaint too."""
    if got == wanted:
        return [] if wanted else ["there are no decisions: the traffic is too small to compare any"]
    missing, extra = Counter(wanted) - Counter(got), Counter(got) - Counter(wanted)
    example = next(iter(missing or extra))[1].decode()
    return [f"decisions: {missing.total():,} of the replay's missing, {extra.total():,} others, such as {example}"]
