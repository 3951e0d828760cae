"""What each part of the model buys: the traces replayed with one part taken out, all else as it is, at the default T.

A part is taken out by other constants, and kernels are compiled with their constants in them: so each variant is a process
of its own (``python -m benchmarks.detection.ablation VARIANT``) that changes them before anything else is imported, and compiles into
a folder that it throws away. Prints the pooled row as JSON.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from engine.detector import constants

NEVER = 1e9


def _without_scale(scale: int) -> Callable[[], dict[str, Any]]:
    """A scale whose limits nobody reaches."""

    def without(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(NEVER if i == scale else value for i, value in enumerate(values))

    return lambda: {name: without(getattr(constants, name)) for name in ("GROWTH", "NEWCOMER_SHARE")}


def _to(**changes: Any) -> Callable[[], dict[str, Any]]:
    return lambda: changes


VARIANTS: dict[str, Callable[[], dict[str, Any]]] = {
    "no probation: a sender is known after its first day": _to(PROBATION_DAYS=0),
    "no tenure: limits don't narrow with active days": _to(TENURE=0.0, FLOOR_AGE_DAYS=NEVER),
    "no floor: a known sender's own record alone": _to(FLOOR=0.01),
    "memory with a half-life of 30 days": _to(HALF_LIFE_DAYS=30.0),
    "memory that never forgets": _to(HALF_LIFE_DAYS=NEVER),
    "no growth brake": _to(BRAKE=NEVER),
    "no clip of what a day may teach": _to(CLIP=NEVER),
    "rejected mail weighs as much as accepted": _to(REJECTED_WEIGHT=1.0),
    "newcomers' limits not learned: the prior's for ever": _to(REFRESH_EVERY=1 << 60),
    "the prior stays where it is, whatever the site's volume": _to(RESCALE_FROM_BIN=constants.BINS),
    "T doesn't follow what is held back": _to(THRESHOLD_STEP=0.0),
    "nobody's first excess is spared": _to(ESTABLISHED_DAYS=NEVER),
    "no cap on what is held back of one sender": _to(CAP=NEVER),
    "no pools: each newcomer by itself": _to(POOL_KEYS=NEVER, POOL_KEYS_LEAST=NEVER),
    "no guard on neighbours: snowshoe teaches": _to(NEIGHBOURS=NEVER),
    **{f"without the {name} scale": _without_scale(i) for i, name in enumerate(constants.SCALE_NAMES)},
}


def apply(changes: dict[str, Any]) -> None:
    """Change the constants; each must be there, and of its type."""
    for name, value in changes.items():
        assert type(getattr(constants, name)) is type(value), name
        setattr(constants, name, value)


def main() -> None:
    """Replay and score one variant."""
    apply(VARIANTS[sys.argv[1]]())
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TIDEGATE_CACHE_DIR"] = scratch
        from benchmarks import scoring  # noqa: PLC0415 (compiles what it imports: not before the constants are changed)
        from engine.config.load import load_settings  # noqa: PLC0415

        folder, settings = Path(scratch), load_settings(None, {}, {})
        reports = [
            scoring.scored(trace, scoring.replayed(trace.events, settings), 0, folder) for trace in scoring.traces()
        ]
        print(orjson.dumps(scoring.pooled(reports)).decode())


if __name__ == "__main__":
    main()
