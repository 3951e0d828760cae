"""The result of `tidegate explain --verify` as lines for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.analysis.verify import (
    CONFIGURATION,
    EVENTS,
    MODEL_VERSION,
    Verification,
    VerifiedDecision,
    changed_inputs,
    changed_offsets,
    differences,
)
from engine.decisions.compose import MODEL

HASH_LENGTH = 19


def in_lines(verification: Verification) -> Iterator[str]:
    """Yield the result for people."""
    results = verification.decisions
    yield f"{sum(result.is_equal for result in results):,} of {len(results):,} decisions are equal byte for byte"
    if verification.deleted_before:
        yield (
            f"deleted: offsets 0 to {verification.deleted_before - 1:,} are no longer on the topic, and every decision "
            "depends on them"
        )
    if shifted := sum(result.is_only_shifted for result in results):
        yield f"{shifted:,} more differ in the source offset alone"
    for shift in verification.shifts:
        yield (
            f"{_count(shift.events)} between offsets {shift.after + 1:,} and {shift.until:,} of partition "
            f"{shift.partition}; later offsets are shifted"
        )
    for result in results:
        if result.is_different:
            yield from _decision_lines(result, verification)


def _count(events: int) -> str:
    plural = "" if abs(events) == 1 else "s"
    return f"{abs(events):,} event{plural} {'added' if events > 0 else 'missing'}"


def _decision_lines(result: VerifiedDecision, verification: Verification) -> Iterator[str]:
    decision, source = result.decision, result.decision.source
    yield f"{decision.network}, {decision.verdict} at offset {source.offset:,} of partition {source.partition}:"
    yield from (f"  {line}" for line in differences(result))
    for name in changed_inputs(result, verification):
        yield f"  changed: {_input_text(name, result, verification)}"


def _input_text(name: str, result: VerifiedDecision, verification: Verification) -> str:
    decision = result.decision
    first, last = changed_offsets(result)
    return {
        CONFIGURATION: f"the configuration: published under {decision.config[:HASH_LENGTH]}, recomputed under "
        f"{verification.config[:HASH_LENGTH]}; give the configuration of that time (`tidegate config` prints the current hash)",
        MODEL_VERSION: f"the model: published by {decision.model}, recomputed by {MODEL}; use the version of that time",
        EVENTS: f"the events in offsets {first:,} to {last:,} of partition {decision.source.partition}; {_bound(result)}",
    }[name]


def _bound(result: VerifiedDecision) -> str:
    if result.after_offset < 0:
        return "no earlier decision on this network is equal"
    return f"the last equal decision on this network is at offset {result.after_offset:,}"


def as_json(verification: Verification) -> dict[str, Any]:
    """Return the result for programs. Equal decisions are only counted."""
    results = verification.decisions
    return {
        "verified": len(results),
        "equal": sum(result.is_equal for result in results),
        "shifted": sum(result.is_only_shifted for result in results),
        "deleted_before": verification.deleted_before,
        "config": verification.config,
        "model": MODEL,
        "shifts": [
            {"partition": shift.partition, "events": shift.events, "offsets": [shift.after + 1, shift.until]}
            for shift in verification.shifts
        ],
        "differ": [_decision_json(result, verification) for result in results if result.is_different],
    }


def _decision_json(result: VerifiedDecision, verification: Verification) -> dict[str, Any]:
    decision = result.decision
    return {
        "network": decision.network,
        "verdict": decision.verdict,
        "partition": decision.source.partition,
        "offset": decision.source.offset,
        "differences": differences(result),
        "changed": changed_inputs(result, verification),
        "offsets": changed_offsets(result),
    }
