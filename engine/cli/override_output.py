"""What the commands that give orders share: who gives them, and how a list of changes is shown, written and told."""

from __future__ import annotations

import asyncio
import getpass
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click

from engine.cli.options import bootstrap_option
from engine.config.load import Settings
from engine.overrides.changes import ADDS, CHANGES, ENDS, KEEPS, REFUSES, Change
from engine.overrides.request import Orders
from engine.overrides.store import order

Command = TypeVar("Command", bound=Callable[..., Any])
SIGNS = {ADDS: "+", CHANGES: "~", ENDS: "-", KEEPS: "=", REFUSES: "!"}
MOST_SHOWN = 200


def order_options(command: Command) -> Command:
    """Adds ``--reason``, ``--by``, ``--dry-run`` and ``--bootstrap``."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Only say what it would change."),
        click.option("--by", metavar="NAME", help="Who gives the order.  [default: user@host]"),
        click.option("--reason", metavar="TEXT", default="", help="Why; it stands in the audit and in decisions."),
        bootstrap_option,
    ):
        command = option(command)
    return command


def orderer(by: str | None) -> str:
    """Who gives an order."""
    return by or f"{getpass.getuser()}@{socket.gethostname()}"


def now_ms() -> int:
    """The time of an order."""
    return int(time.time() * 1000)


def carry_out(settings: Settings, at_ms: int, orders: Orders, *, dry_run: bool) -> int:
    """Look at what is in force, show what the orders change, and write it unless it is a dry run; the exit status: 1 if
    some were refused, 2 if all were."""
    found = asyncio.run(order(settings, at_ms, orders, dry_run=dry_run))
    for line in told(found, dry_run=dry_run):
        click.echo(line)
    refused = sum(change.kind == REFUSES for change in found)
    return 0 if not refused else 2 if refused == len(found) else 1


def told(found: Sequence[Change], *, dry_run: bool) -> Iterator[str]:
    """The changes, a line each: all refusals, the first of the others, and how many there are of each."""
    others = [change for change in found if change.kind != REFUSES]
    shown = [change for change in found if change.kind == REFUSES] + others[:MOST_SHOWN]
    yield from (f"{SIGNS[change.kind]} {change.network}: {change.text}" for change in shown)
    if len(others) > MOST_SHOWN:
        yield f"  and {len(others) - MOST_SHOWN:,} more"
    if len(found) > 1 or dry_run:
        counts = {kind: sum(change.kind == kind for change in found) for kind in SIGNS}
        names = {ADDS: "added", CHANGES: "changed", ENDS: "ended", KEEPS: "unchanged", REFUSES: "refused"}
        said = ", ".join(f"{counts[kind]:,} {name}" for kind, name in names.items())
        yield f"A dry run, nothing was written: {said}" if dry_run else said
