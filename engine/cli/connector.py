"""`tidegate connector`: add, remove, list and import exemptions of partners and relays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from engine.cli.options import bootstrap_option, settings_from
from engine.cli.override_output import OverrideRequest, now_ms, override_options, write_overrides
from engine.cli.sources import read_overrides
from engine.cli.table import aligned
from engine.config.load import Settings
from engine.decisions.override_index import OverrideIndex
from engine.overrides.changes import OverrideChange, networks_of_names, plan_overrides, plan_removals
from engine.overrides.import_file import parse_connectors
from engine.overrides.parse import parse_end_ms, parse_target
from topics.errors import OperatorError
from topics.overrides import CONNECTOR, EXEMPT, EXEMPT_NAME, THROTTLE, Override, Removal, encode_line, is_name
from topics.times import time_text

HEAD = ("network", "until", "owner", "reason", "by", "since")
EXEMPTED = "NETWORK|RELAY|NAME..."


@click.group(epilog='Example:  tidegate connector add 192.0.2.0/24 --owner "ACME, noc@acme.example" --reason MX')
def connector() -> None:
    """Exempt partners and relays from throttles: networks, relays of the configuration, names.

    The engine goes on learning what they send, but issues no decisions on them and withdraws existing ones. Edges let their
    mail pass as soon as they read the exemption.
    """


@connector.command(
    short_help="Exempt networks, relays or names.",
    epilog='Example:  tidegate connector add 192.0.2.0/24 --owner "ACME, noc@acme.example" --reason MX',
)
@click.argument("exempted", nargs=-1, required=True, metavar=EXEMPTED)
@click.option("--owner", required=True, metavar="TEXT", help="Owner and contact.")
@click.option("--until", metavar="TIME", help="End: a span such as 30d, or a time, UTC.  [default: none]")
@override_options
@click.pass_context
def add(
    ctx: click.Context, /, exempted: tuple[str, ...], owner: str, until: str | None, request: OverrideRequest
) -> None:
    """Exempt networks (CIDR of any length, addresses), names of the configuration's [relays], or suffixes of host names.

    A suffix is client:.example.com or helo:.example.com. The first applies to clients whose address resolves to such a name
    and whose name resolves to that address (Postfix's client_name). The second applies to the HELO name, which any client can
    forge. Names are honoured by edges that Postfix queries by policy delegation. The engine goes on issuing decisions, since
    events carry no names.
    """
    settings, at_ms = settings_from(ctx, kafka_bootstrap=request.bootstrap), now_ms()
    template = _template(at_ms, owner, until, request)
    wanted = list(_exemptions(exempted, settings, template))
    ctx.exit(write_overrides(settings, partial(plan_overrides, wanted), dry_run=request.dry_run))


@connector.command(epilog="Example:  tidegate connector remove 192.0.2.0/24 --reason 'contract ended'")
@click.argument("exempted", nargs=-1, required=True, metavar=EXEMPTED)
@override_options
@click.pass_context
def remove(ctx: click.Context, /, exempted: tuple[str, ...], request: OverrideRequest) -> None:
    """End exemptions and releases. A relay's name ends all exemptions added under that name.

    Withdrawn decisions stay withdrawn. The engine issues the next one when the sender exceeds its limits again, or after half
    of a throttle's term.
    """
    settings, at_ms = settings_from(ctx, kafka_bootstrap=request.bootstrap), now_ms()
    removal = Removal("", at_ms, request.reason, request.author)

    def orders(index: OverrideIndex) -> Iterator[OverrideChange]:
        by_name = {
            text: [active.network for active in index.all_unexpired(at_ms) if active.relay == text] for text in exempted
        }
        networks = [network for text in exempted for network in by_name[text] or [_parse(text, settings)]]
        yield from plan_removals(networks, index, removal)

    ctx.exit(write_overrides(settings, orders, dry_run=request.dry_run))


@connector.command(name="list", epilog="Example:  tidegate connector list --bootstrap kafka1:9092")
@bootstrap_option
@click.option("--all", "everything", is_flag=True, help="Include releases and manual throttles.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
@click.pass_context
def list_(ctx: click.Context, bootstrap: str | None, everything: bool, as_json: bool) -> None:
    """Show the active connectors."""
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    active = OverrideIndex(asyncio.run(read_overrides(settings))).all_unexpired(now_ms())
    shown = [override for override in active if everything or override.action == CONNECTOR]
    if as_json:
        for override in shown:
            click.echo(encode_line(override))
        return
    for line in aligned((*HEAD, "kind") if everything else HEAD, [_row(override, everything) for override in shown]):
        click.echo(line)


@connector.command(
    name="import",
    short_help="Exempt the networks in a file.",
    epilog="Example:  tidegate connector import partners.csv --dry-run",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--owner", default="", metavar="TEXT", help="Owner for lines without one.")
@click.option("--until", metavar="TIME", help="End for lines without one.  [default: none]")
@override_options
@click.pass_context
def import_(ctx: click.Context, /, file: Path, owner: str, until: str | None, request: OverrideRequest) -> None:
    """Exempt the networks in FILE: CSV (network, owner, reason, until), or one network per line, # for comments.

    --dry-run prints each line's change. The exit status is 1 if some lines were refused; the others are written.
    """
    settings, at_ms = settings_from(ctx, kafka_bootstrap=request.bootstrap), now_ms()
    template = _template(at_ms, owner, until, request)
    try:
        lines = list(parse_connectors(file.read_text(encoding="utf-8-sig"), template))
    except ValueError as error:
        raise OperatorError(f"{file}: {error}") from error

    def orders(index: OverrideIndex) -> Iterator[OverrideChange]:
        for line in lines:
            yield from [line] if isinstance(line, OverrideChange) else plan_overrides([line], index)

    ctx.exit(write_overrides(settings, orders, dry_run=request.dry_run))


def _template(at_ms: int, owner: str, until: str | None, request: OverrideRequest) -> Override:
    """Return an exemption without a network."""
    try:
        until_ms = None if until is None else parse_end_ms(until, at_ms)
    except ValueError as error:
        raise OperatorError(str(error)) from None
    return Override(
        "",
        EXEMPT,
        CONNECTOR,
        at_ms,
        until_ms,
        owner=owner,
        reason=request.reason,
        by=request.author,
        forced=request.force,
    )


def _exemptions(exempted: Iterable[str], settings: Settings, template: Override) -> Iterator[Override]:
    for text, relay in networks_of_names(exempted, settings.relays):
        network = _parse(text, settings)
        yield replace(template, network=network, kind=EXEMPT_NAME if is_name(network) else EXEMPT, relay=relay)


def _parse(text: str, settings: Settings) -> str:
    try:
        return parse_target(text)
    except ValueError as error:
        relays = f"; the configuration's relays: {', '.join(settings.relays)}" if settings.relays else ""
        raise OperatorError(f"{error}{relays}") from None


def _row(override: Override, everything: bool) -> tuple[str, ...]:
    until = "no end" if override.until is None else time_text(override.until)
    owner = override.owner + (f" [{override.relay}]" if override.relay else "")
    row = (
        override.network,
        until,
        owner or "-",
        override.reason or "-",
        override.by or "-",
        time_text(override.created),
    )
    return (*row, THROTTLE if override.kind == THROTTLE else override.action) if everything else row
