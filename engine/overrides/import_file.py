"""Files of connectors: CSV with a heading, or one network a line. Pure: text in, wanted overrides and refused lines out.

CSV has the column ``network`` and may have ``owner``, ``reason`` and ``until``; what a line leaves empty is what the command
line says. In a file of networks ``#`` begins a remark. A network that comes twice is refused the second time.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from engine.overrides.changes import REFUSES, Change
from engine.overrides.parse import end_ms, place
from topics.overrides import EXEMPT, EXEMPT_NAME, Override

COLUMNS = ("network", "owner", "reason", "until")


class Line(NamedTuple):
    """A line of a file. ``fields``: by column, what is empty left out."""

    number: int
    fields: dict[str, str]


def is_csv(text: str) -> bool:
    """Whether the first line is a heading."""
    heading = text.partition("\n")[0].lower().replace(" ", "").strip()
    return "network" in heading.split(",")


def lines_of(text: str) -> Iterator[Line]:
    """The lines that say something. ValueError for a column that isn't known."""
    if is_csv(text):
        rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
        names = [name.strip().lower() for name in rows.fieldnames or ()]
        unknown = [name for name in names if name not in COLUMNS]
        if unknown:
            raise ValueError(f"unknown column {unknown[0]!r}: the columns are {', '.join(COLUMNS)}")
        rows.fieldnames = names
        for row in rows:
            fields = {name: value.strip() for name, value in row.items() if name in COLUMNS and value and value.strip()}
            if fields:
                yield Line(rows.line_num, fields)
        return
    for number, line in enumerate(text.splitlines(), 1):
        network = line.partition("#")[0].strip()
        if network:
            yield Line(number, {"network": network})


def connectors(text: str, pattern: Override) -> Iterator[Override | Change]:
    """Each line as the override that it wants, made after ``pattern``, or as a refusal."""
    seen: dict[str, int] = {}
    for line in lines_of(text):
        said = line.fields.get("network", "")
        try:
            override = _connector(line, pattern)
        except ValueError as error:
            yield Change(REFUSES, said or "-", None, f"line {line.number}: {error}")
            continue
        first = seen.setdefault(override.network, line.number)
        if first != line.number:
            yield Change(REFUSES, override.network, None, f"line {line.number}: line {first} has it already")
        else:
            yield override


def _connector(line: Line, pattern: Override) -> Override:
    fields = line.fields
    if "network" not in fields:
        raise ValueError("no network")
    network, is_name = place(fields["network"])
    owner, reason = fields.get("owner", pattern.owner), fields.get("reason", pattern.reason)
    if not owner or not reason:
        raise ValueError("no owner or reason: give them in the file, or as --owner and --reason")
    until = end_ms(fields["until"], pattern.created) if "until" in fields else pattern.until
    kind = EXEMPT_NAME if is_name else EXEMPT
    return replace(pattern, network=network, kind=kind, owner=owner, reason=reason, until=until)
