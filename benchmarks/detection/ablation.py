"""The gain of each part of the model: the traces replayed with one part removed, at the default sensitivity.

A part is removed by other constants. Kernels are compiled with their constants, so each variant is a process of its own
(``python -m benchmarks.detection.ablation VARIANT``). It changes the constants before anything else is imported and compiles
into a temporary folder. Prints the pooled row as JSON.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from benchmarks.harness.errors import Broken
from engine.detector import constants

NEVER = 1e9


def _without_scale(scale: int) -> Callable[[], dict[str, Any]]:
    """Return a change of the constants after which no sender reaches the limits of one scale."""

    def without(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(NEVER if i == scale else value for i, value in enumerate(values))

    return lambda: {name: without(getattr(constants, name)) for name in ("GROWTH", "NEWCOMER_SHARE")}


def _to(**changes: Any) -> Callable[[], dict[str, Any]]:
    return lambda: changes


VARIANTS: dict[str, Callable[[], dict[str, Any]]] = {
    "no probation: a sender is known after its first day": _to(PROBATION_DAYS=0),
    "no tenure: limits don't narrow with active days": _to(TENURE=0.0, FLOOR_AGE_DAYS=NEVER),
    "no floor: a known sender's own baseline alone": _to(FLOOR=0.01),
    "memory with a half-life of 30 days": _to(HALF_LIFE_DAYS=30.0),
    "memory without decay": _to(HALF_LIFE_DAYS=NEVER),
    "no growth brake": _to(BRAKE=NEVER),
    "no clip of a day's training": _to(CLIP=NEVER),
    "rejected mail weighs as much as accepted": _to(REJECTED_WEIGHT=1.0),
    "newcomers' limits not learned: those of the prior": _to(REFRESH_EVERY=1 << 60),
    "the prior unchanged, whatever the site's volume": _to(RESCALE_FROM_BIN=constants.BINS),
    "the threshold doesn't follow the deferred mail": _to(THRESHOLD_STEP=0.0),
    "no lenience for a first excess": _to(ESTABLISHED_DAYS=NEVER),
    "no cap on the mail deferred of one sender": _to(CAP=NEVER),
    "no pools: each newcomer by itself": _to(POOL_KEYS=NEVER, POOL_KEYS_LEAST=NEVER),
    "no limit on neighbours: snowshoe trains the cohort": _to(NEIGHBOURS=NEVER),
    **{f"without the {name} scale": _without_scale(i) for i, name in enumerate(constants.SCALE_NAMES)},
}


def apply(changes: dict[str, Any]) -> None:
    """Change the constants; each must exist, and keep its type."""
    for name, value in changes.items():
        assert type(getattr(constants, name)) is type(value), name
        setattr(constants, name, value)


def main() -> None:
    """Replay and score one variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=tuple(VARIANTS), metavar="VARIANT", help="; ".join(VARIANTS))
    apply(VARIANTS[parser.parse_args().variant]())
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TIDEGATE_CACHE_DIR"] = folder
        from benchmarks.detection import traces  # noqa: PLC0415 (compiles: not before the constants are changed)
        from engine.config.load import load_settings  # noqa: PLC0415

        print(orjson.dumps(traces.pooled_row(load_settings(None, {}, {}), Path(folder))).decode())


if __name__ == "__main__":
    try:
        main()
    except Broken as error:
        sys.exit(f"benchmark: {error}")
