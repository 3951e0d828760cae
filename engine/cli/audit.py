"""`tidegate audit`: print the overrides on the exemptions topic with author, time and reason."""

from __future__ import annotations

import asyncio

import click

from engine.cli.options import bootstrap_option, settings_from
from engine.cli.override_output import now_ms
from engine.cli.sources import read_overrides
from engine.overrides.parse import parse_span_ms, parse_target
from topics.errors import OperatorError
from topics.networks import network_of, overlap
from topics.overrides import OverrideRecord, Removal, encode_line, is_name
from topics.times import time_text
from topics.words import override_text


@click.command(epilog="Example:  tidegate audit 192.0.2.7 --since 30d")
@click.argument("network", required=False)
@bootstrap_option
@click.option("--since", metavar="SPAN", help="Only overrides created within a span such as 7d.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object per line, as `tidegate replay --overrides` reads."
)
@click.pass_context
def audit(ctx: click.Context, network: str | None, bootstrap: str | None, since: str | None, as_json: bool) -> None:
    """Show every exemption, release, manual throttle and removal, oldest first.

    With NETWORK, only those of it, of networks around it, and of networks in it. The topic keeps all records for at least a
    year, and the last record of each network after that.
    """
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    try:
        wanted = None if network is None else parse_target(network)
        since_ms = 0 if since is None else now_ms() - parse_span_ms(since)
    except ValueError as error:
        raise OperatorError(str(error)) from None
    for record in asyncio.run(read_overrides(settings)):
        if record.created >= since_ms and (wanted is None or _overlap(record.network, wanted)):
            click.echo(encode_line(record) if as_json else in_words(record))


def in_words(record: OverrideRecord) -> str:
    """Return a record as one line of text."""
    if not isinstance(record, Removal):
        return f"{time_text(record.created)}  {record.network}: {override_text(record)}"
    by, reason = f", by {record.by}" if record.by else "", f" ({record.reason})" if record.reason else ""
    return f"{time_text(record.created)}  {record.network}: ended{by}{reason}"


def _overlap(network: str, other: str) -> bool:
    """Return True if two networks share an address, or if two names are equal."""
    if is_name(network) or is_name(other):
        return network == other
    return overlap(network_of(network), network_of(other))
