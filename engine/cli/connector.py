"""`tidegate connector`: partners and relays that nothing may throttle; added, removed, listed, imported."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from engine.cli.options import bootstrap_option, settings_from
from engine.cli.override_output import carry_out, now_ms, order_options, orderer
from engine.cli.table import aligned
from engine.config.load import Settings
from engine.overrides.changes import Change, InForce, by_relay, changes, removals
from engine.overrides.import_file import connectors
from engine.overrides.parse import end_ms, place
from engine.overrides.store import OverrideTopic
from topics.errors import OperatorError
from topics.overrides import CONNECTOR, EXEMPT, EXEMPT_NAME, THROTTLE, Override, Removal, encode_line
from topics.times import moment

HEAD = ("network", "until", "owner", "reason", "by", "since")


@click.group(epilog='Example:  tidegate connector add 192.0.2.0/24 --owner "ACME, noc@acme.example" --reason MX')
def connector() -> None:
    """Exempt partners and relays from throttles: networks, announced relays, names.

    The engine goes on learning what they send, decides nothing on them, and withdraws what it had decided; edges let them
    pass as soon as they read it.
    """


@connector.command(epilog='Example:  tidegate connector add 192.0.2.0/24 --owner "ACME, noc@acme.example" --reason MX')
@click.argument("places", nargs=-1, required=True, metavar="NETWORK|RELAY|NAME...")
@click.option("--owner", required=True, metavar="TEXT", help="Whose it is, and whom to ask.")
@click.option("--until", metavar="TIME", help="Its end: a span such as 30d, or a moment, UTC.  [default: for good]")
@order_options
@click.pass_context
def add(ctx: click.Context, /, places: tuple[str, ...], owner: str, until: str | None, **options: Any) -> None:
    """Exempt networks: CIDR of any length, addresses, names of the configuration's [relays], or suffixes of names.

    A suffix is client:.example.com, for clients whose address has such a name and the name that address (what Postfix calls
    client_name), or helo:.example.com, for what a client says of itself, which anybody can say. Names are honoured by edges
    that Postfix asks by policy delegation; the engine goes on deciding, as events carry no names.
    """
    settings, at_ms = settings_from(ctx, kafka_bootstrap=options["bootstrap"]), now_ms()
    pattern = pattern_of(at_ms, owner, until, options)
    wanted = list(_wanted(places, settings, pattern))
    ctx.exit(carry_out(settings, at_ms, partial(changes, wanted), dry_run=options["dry_run"]))


@connector.command(epilog="Example:  tidegate connector remove 192.0.2.0/24 --reason 'contract ended'")
@click.argument("places", nargs=-1, required=True, metavar="NETWORK|RELAY|NAME...")
@order_options
@click.pass_context
def remove(ctx: click.Context, /, places: tuple[str, ...], **options: Any) -> None:
    """End exemptions, releases too. A relay's name ends all that were added by it.

    What the engine had withdrawn stays so: the next decision is made when the sender is over its limits again, or half of a
    throttle's term has gone.
    """
    settings, at_ms = settings_from(ctx, kafka_bootstrap=options["bootstrap"]), now_ms()
    removal = Removal("", at_ms, options["reason"], orderer(options["by"]))

    def orders(present: InForce) -> Iterator[Change]:
        by_name = {text: [one.network for one in present.all() if one.relay == text] for text in places}
        named = [network for text in places for network in by_name[text] or [_place(text, settings)[0]]]
        yield from removals(named, present, removal)

    ctx.exit(carry_out(settings, at_ms, orders, dry_run=options["dry_run"]))


@connector.command(name="list", epilog="Example:  tidegate connector list --bootstrap kafka1:9092")
@bootstrap_option
@click.option("--all", "everything", is_flag=True, help="Releases and throttles by hand too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def list_(ctx: click.Context, bootstrap: str | None, everything: bool, as_json: bool) -> None:
    """Show the connectors in force."""
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    shown = [one for one in asyncio.run(in_force(settings)).all() if everything or one.action == CONNECTOR]
    if as_json:
        for override in shown:
            click.echo(encode_line(override))
        return
    for line in aligned((*HEAD, "kind") if everything else HEAD, [_row(one, everything) for one in shown]):
        click.echo(line)


@connector.command(name="import", epilog="Example:  tidegate connector import partners.csv --dry-run")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--owner", default="", metavar="TEXT", help="For lines that name none.")
@click.option("--until", metavar="TIME", help="Their end, where a line says none.  [default: for good]")
@order_options
@click.pass_context
def import_(ctx: click.Context, /, file: Path, owner: str, until: str | None, **options: Any) -> None:
    """Exempt the networks of FILE: CSV (network, owner, reason, until), or a network a line, # for remarks.

    --dry-run says of each line what it would change. The exit status is 1 if some lines were refused; the others are done.
    """
    settings, at_ms = settings_from(ctx, kafka_bootstrap=options["bootstrap"]), now_ms()
    pattern = pattern_of(at_ms, owner, until, options)
    try:
        found = list(connectors(file.read_text(encoding="utf-8-sig"), pattern))
    except ValueError as error:
        raise OperatorError(f"{file}: {error}") from error

    def orders(present: InForce) -> Iterator[Change]:
        for one in found:
            yield from [one] if isinstance(one, Change) else changes([one], present)

    ctx.exit(carry_out(settings, at_ms, orders, dry_run=options["dry_run"]))


def pattern_of(at_ms: int, owner: str, until: str | None, options: dict[str, Any]) -> Override:
    """An override that lacks its network."""
    try:
        until_ms = None if until is None else end_ms(until, at_ms)
    except ValueError as error:
        raise OperatorError(str(error)) from None
    by = orderer(options["by"])
    return Override("", EXEMPT, CONNECTOR, at_ms, until_ms, owner=owner, reason=options["reason"], by=by)


async def in_force(settings: Settings) -> InForce:
    """All overrides that last now."""
    async with OverrideTopic(settings) as topic:
        said, unreadable = await topic.read()
    if unreadable:
        click.echo(f"{unreadable} records on the topic are no overrides: left out", err=True)
    return InForce(said, now_ms())


def _wanted(places: Iterable[str], settings: Settings, pattern: Override) -> Iterator[Override]:
    for text, relay in by_relay(places, settings.relays):
        network, is_name = _place(text, settings)
        yield replace(pattern, network=network, kind=EXEMPT_NAME if is_name else EXEMPT, relay=relay)


def _place(text: str, settings: Settings) -> tuple[str, bool]:
    try:
        return place(text)
    except ValueError as error:
        relays = f"; the configuration's relays: {', '.join(settings.relays)}" if settings.relays else ""
        raise OperatorError(f"{error}{relays}") from None


def _row(override: Override, everything: bool) -> tuple[str, ...]:
    until = "for good" if override.until is None else moment(override.until)
    owner = override.owner + (f" [{override.relay}]" if override.relay else "")
    row = (override.network, until, owner or "-", override.reason or "-", override.by or "-", moment(override.created))
    return (*row, THROTTLE if override.kind == THROTTLE else override.action) if everything else row
