"""Parse files of connectors: CSV with a heading, or one network per line. Pure: text in, overrides and refused lines out.

CSV has the column ``network`` and may have ``owner``, ``reason`` and ``until``; an empty field takes the command's option.
In a file of networks ``#`` begins a comment. The second line of a network is refused.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from engine.overrides.changes import REFUSES, OverrideChange
from engine.overrides.parse import parse_end_ms, parse_target
from topics.overrides import EXEMPT, EXEMPT_NAME, Override, is_name

COLUMNS = ("network", "owner", "reason", "until")


class ConnectorLine(NamedTuple):
    """A line of a file that isn't empty."""

    number: int  # from 1
    fields: dict[str, str]  # by column, without empty ones


def parse_connectors(text: str, template: Override) -> list[Override | OverrideChange]:
    """Return for each line its override, a copy of `template` with the line's fields, or its refusal.

    Raise ValueError for a column that isn't known.
    """
    wanted: list[Override | OverrideChange] = []
    first_lines: dict[str, int] = {}
    for line in _lines(text):
        try:
            override = _connector(line, template)
        except ValueError as error:
            network = line.fields.get("network", "-")
            wanted.append(OverrideChange(REFUSES, network, None, f"line {line.number}: {error}"))
            continue
        first = first_lines.setdefault(override.network, line.number)
        if first != line.number:
            refusal = f"line {line.number}: line {first} has it already"
            wanted.append(OverrideChange(REFUSES, override.network, None, refusal))
        else:
            wanted.append(override)
    return wanted


def _lines(text: str) -> Iterator[ConnectorLine]:
    if _is_csv(text):
        yield from _csv_lines(text)
        return
    for number, line in enumerate(text.splitlines(), 1):
        network = line.partition("#")[0].strip()
        if network:
            yield ConnectorLine(number, {"network": network})


def _is_csv(text: str) -> bool:
    """Return True if the first line is a heading."""
    heading = text.partition("\n")[0].lower().replace(" ", "").strip()
    return "network" in heading.split(",")


def _csv_lines(text: str) -> Iterator[ConnectorLine]:
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    names = [name.strip().lower() for name in rows.fieldnames or ()]
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise ValueError(f"unknown column {unknown[0]!r}: the columns are {', '.join(COLUMNS)}")
    rows.fieldnames = names
    for row in rows:
        fields = {name: value.strip() for name, value in row.items() if name in COLUMNS and value and value.strip()}
        if fields:
            yield ConnectorLine(rows.line_num, fields)


def _connector(line: ConnectorLine, template: Override) -> Override:
    fields = line.fields
    if "network" not in fields:
        raise ValueError("no network")
    network = parse_target(fields["network"])
    owner, reason = fields.get("owner", template.owner), fields.get("reason", template.reason)
    if not owner or not reason:
        raise ValueError("no owner or reason: give them in the file, or as --owner and --reason")
    until = parse_end_ms(fields["until"], template.created) if "until" in fields else template.until
    kind = EXEMPT_NAME if is_name(network) else EXEMPT
    return replace(template, network=network, kind=kind, owner=owner, reason=reason, until=until)
