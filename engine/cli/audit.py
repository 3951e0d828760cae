"""`tidegate audit`: every order that operators gave, as it stands on the exemptions topic: who, what, when and why."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network

import click

from engine.cli.options import bootstrap_option, settings_from
from engine.cli.override_output import now_ms
from engine.config.load import Settings
from engine.overrides.changes import described
from engine.overrides.parse import place, span_ms
from engine.overrides.store import OverrideTopic
from topics.errors import OperatorError
from topics.keys import overlap
from topics.overrides import CLIENT, HELO, Removal, Said, encode_line
from topics.times import moment


@click.command(epilog="Example:  tidegate audit 192.0.2.7 --since 30d")
@click.argument("network", required=False)
@bootstrap_option
@click.option("--since", metavar="SPAN", help="Only what was ordered within a span such as 7d.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line: what `tidegate replay --overrides` takes."
)
@click.pass_context
def audit(ctx: click.Context, network: str | None, bootstrap: str | None, since: str | None, as_json: bool) -> None:
    """Show every exemption, release, throttle by hand and removal, oldest first; of NETWORK alone, and of the networks around
    it and in it, if one is given.

    Orders stay on the topic for a year at least, then the last one of each network.
    """
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    try:
        wanted = None if network is None else place(network)[0]
        since_ms = 0 if since is None else now_ms() - span_ms(since)
    except ValueError as error:
        raise OperatorError(str(error)) from None
    for said in asyncio.run(_read(settings)):
        if said.created >= since_ms and (wanted is None or _touches(said.network, wanted)):
            click.echo(encode_line(said) if as_json else in_words(said))


async def _read(settings: Settings) -> list[Said]:
    async with OverrideTopic(settings) as topic:
        said, unreadable = await topic.read()
    if unreadable:
        click.echo(f"{unreadable} records on the topic are no overrides: left out", err=True)
    return said


def in_words(said: Said) -> str:
    """An order for people, a line."""
    if not isinstance(said, Removal):
        return f"{moment(said.created)}  {said.network}: {described(said)}"
    by, reason = f", by {said.by}" if said.by else "", f" ({said.reason})" if said.reason else ""
    return f"{moment(said.created)}  {said.network}: ended{by}{reason}"


def _touches(one: str, other: str) -> bool:
    """Whether two networks share an address; names are alike or not."""
    if one.startswith((CLIENT, HELO)) or other.startswith((CLIENT, HELO)):
        return one == other
    return overlap(ip_network(one), ip_network(other))
