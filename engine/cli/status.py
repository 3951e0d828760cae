"""`tidegate status`: how a worker is, for people and scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import orjson

from engine.cli.options import settings_from, url_option
from engine.web.client import ask, place_of
from engine.web.health_checks import complaints_of


@click.command(epilog="Example:  tidegate status --json | jq .complaints")
@url_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of words.")
@click.pass_context
def status(ctx: click.Context, url: str | None, as_json: bool) -> None:
    """Say how a worker is, by asking its HTTP (worker.http).

    Exit status: 0 if all is well, 1 if something isn't (it says what), 2 if no worker answers.
    """
    _, found = ask(place_of(settings_from(ctx), url), "/v1/status")
    complaints = complaints_of(found)
    if as_json:
        click.echo(orjson.dumps({**found, "complaints": complaints}))
    else:
        click.echo("\n".join([*in_lines(found), *(f"not well: {said}" for said in complaints)]))
    ctx.exit(1 if complaints else 0)


def in_lines(found: dict[str, Any]) -> Iterator[str]:
    """A status for people."""
    since, partitions = found["since_start"], found["partitions"]
    yield f"worker {found['pid']} on {found['host']}, configuration {found['config'][:19]}"
    if found["shadow"]:
        yield f"  in shadow, so that edges only tell what they would defer: {found['shadow']}"
    shadows = sum(since["in_shadow"].values())
    yield (
        f"  since it started: {since['records']:,} events, {since['throttles']:,} throttles, "
        f"{f'{shadows:,} in shadow, ' if shadows else ''}{since['releases']:,} releases, {since['cpu_s']:,.0f} s of CPU"
    )
    yield (
        f"  in all: {found['events']:,} events, {found['keys']:,} senders known, "
        f"{sum(one['throttled'] for one in partitions.values()):,} throttled"
    )
    yield "  partition      events behind   seconds   senders   full   deferred of budget   decides"
    for number, one in sorted(partitions.items(), key=lambda item: int(item[0])):
        established = one["established"]
        behind = "?" if one["lag"] is None else f"{one['lag']:,}"
        decides = "yes" if one["decides"] else "no, it learns or watches"
        yield (
            f"  {number:<9}{behind:>19}{one['lag_s']:>10,.1f}{one['keys']:>10,}{one['keys'] / one['capacity']:>7.0%}"
            f"{established['share'] / established['budget']:>21.0%}   {decides}"
        )
