"""The contest's results as they are kept, put together: of each part the last run that had it.

So a part can be measured again by itself. The whole has the machine's stamp of the last throughput; ``stamps`` has that of
every part which another run measured, ``sizes`` and ``figures`` are those of the parts' own runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from benchmarks.contest.sizes import PARTS

FIELDS = {"open": "opened", "recovery": "recoveries", "keys": "key_costs", "scaling": "scaled"}
BASE, GRID = "throughput", "grid"


def whole(path: Path) -> dict[str, Any] | None:
    """All parts, from the file's lines; None if no throughput was kept."""
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    last = {part: line for line in lines for part in PARTS if part in line["sizes"]["parts"]}
    if BASE not in last:
        return None
    base: dict[str, Any] = last[BASE]
    kept = base | {"stamps": {part: line["machine"] for part, line in last.items() if line is not base}}
    for part, field in FIELDS.items():
        kept[field] = last[part].get(field, []) if part in last else []
    name = main_name(base)
    kept["cases"] = [case for case in base["cases"] if case["case"]["name"] == name]
    if GRID in last:
        kept["cases"] += [case for case in last[GRID]["cases"] if case["case"]["name"] != main_name(last[GRID])]
    return kept


def main_name(kept: dict[str, Any]) -> str:
    """The name of the case that everybody reads."""
    return f"{kept['sizes']['keys']:,} senders, lz4"
