"""What the commands that write overrides share: their options, and how a list of changes is written and printed."""

from __future__ import annotations

import asyncio
import getpass
import socket
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import click

from engine.cli.options import bootstrap_option, option_group
from engine.config.load import Settings
from engine.overrides.changes import ADDS, CHANGES, ENDS, KEEPS, REFUSES, OverrideChange
from engine.overrides.request import Plan
from engine.overrides.store import apply_plan

SIGNS = {ADDS: "+", CHANGES: "~", ENDS: "-", KEEPS: "=", REFUSES: "!"}
NAMES = {ADDS: "added", CHANGES: "changed", ENDS: "ended", KEEPS: "unchanged", REFUSES: "refused"}
MOST_SHOWN = 200


class OverrideRequest(NamedTuple):
    """Options of every command that writes overrides."""

    bootstrap: str | None
    reason: str
    by: str | None
    dry_run: bool
    force: bool

    @property
    def author(self) -> str:
        """Return the author of the override: ``--by``, else user@host."""
        return self.by or f"{getpass.getuser()}@{socket.gethostname()}"


override_options = option_group(
    "request",
    OverrideRequest,
    bootstrap_option,
    click.option("--reason", metavar="TEXT", default="", help="Reason, shown in the audit and in decisions."),
    click.option("--by", metavar="NAME", help="Author of the override.  [default: user@host]"),
    click.option("--dry-run", is_flag=True, help="Print the changes without writing them."),
    click.option("--force", is_flag=True, help="Accept networks wider than an IPv4 /8 or an IPv6 /16."),
)


def now_ms() -> int:
    """Return the current time, which is an override's time of creation."""
    return int(time.time() * 1000)


def write_overrides(settings: Settings, plan: Plan, *, dry_run: bool) -> int:
    """Print the changes to the active overrides and write them, unless it is a dry run.

    Returns the exit status: 0, or 1 if some changes were refused, or 2 if all were.
    """
    changes = asyncio.run(apply_plan(settings, plan, dry_run=dry_run))
    for line in change_lines(changes, dry_run=dry_run):
        click.echo(line)
    refused = sum(change.kind == REFUSES for change in changes)
    return 0 if not refused else 2 if refused == len(changes) else 1


def change_lines(changes: Sequence[OverrideChange], *, dry_run: bool) -> Iterator[str]:
    """Yield a line for each refusal, then for the first `MOST_SHOWN` other changes, then the number of each kind."""
    refusals = [change for change in changes if change.kind == REFUSES]
    others = [change for change in changes if change.kind != REFUSES]
    for change in (*refusals, *others[:MOST_SHOWN]):
        yield f"{SIGNS[change.kind]} {change.network}: {change.text}"
    if len(others) > MOST_SHOWN:
        yield f"  and {len(others) - MOST_SHOWN:,} more"
    if len(changes) > 1 or dry_run:
        counts = {kind: sum(change.kind == kind for change in changes) for kind in SIGNS}
        summary = ", ".join(f"{counts[kind]:,} {name}" for kind, name in NAMES.items())
        yield f"Dry run, nothing was written: {summary}" if dry_run else summary
