"""Results as they are kept: one JSON object a line, only ever appended to.

A result says what was run (sizes, seed), on what (machine), every single measurement, and what came out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "results"


def keep(result: dict[str, Any], path: Path) -> None:
    """Append a result to the file, which is made if it isn't there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE))


def latest(path: Path) -> dict[str, Any] | None:
    """The last result in the file; None if there is none."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return orjson.loads(lines[-1]) if lines else None
