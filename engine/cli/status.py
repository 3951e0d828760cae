"""`tidegate status`: the status of a worker, for people and scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import orjson

from engine.cli.options import settings_from, url_option
from engine.web.client import get_json, worker_address
from engine.web.health_checks import find_problems


@click.command(epilog="Example:  tidegate status --json | jq .problems")
@url_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def status(ctx: click.Context, url: str | None, as_json: bool) -> None:
    """Show the status of a worker, queried over HTTP (worker.http).

    Exit status: 0 if the worker is healthy, 1 if it has problems (listed), 2 if no worker replies.
    """
    _, answer = get_json(worker_address(settings_from(ctx), url), "/v1/status")
    problems = find_problems(answer)
    if as_json:
        click.echo(orjson.dumps({**answer, "problems": problems}))
    else:
        click.echo("\n".join([*in_lines(answer), *(f"problem: {problem}" for problem in problems)]))
    ctx.exit(1 if problems else 0)


def in_lines(status: dict[str, Any]) -> Iterator[str]:
    """Yield a status as lines for people."""
    since, partitions = status["since_start"], status["partitions"]
    yield f"worker {status['pid']} on {status['host']}, configuration {status['config'][:19]}"
    if status["shadow"]:
        yield f"  shadow mode, edges log deferrals without applying them: {status['shadow']}"
    shadows = sum(since["in_shadow"].values())
    yield (
        f"  since start: {since['records']:,} events, {since['throttles']:,} throttles, "
        f"{f'{shadows:,} in shadow, ' if shadows else ''}{since['releases']:,} releases, {since['cpu_s']:,.0f} s of CPU"
    )
    yield (
        f"  total: {status['events']:,} events, {status['keys']:,} senders tracked, "
        f"{sum(partition['throttled'] for partition in partitions.values()):,} throttled"
    )
    yield "  partition         lag, events   seconds   senders   full   deferred of budget   decides"
    for number, partition in sorted(partitions.items(), key=lambda item: int(item[0])):
        established = partition["established"]
        lag = "?" if partition["lag"] is None else f"{partition['lag']:,}"
        decides = "yes" if partition["decides"] else "no, learning or off"
        yield (
            f"  {number:<9}{lag:>19}{partition['lag_s']:>10,.1f}{partition['keys']:>10,}"
            f"{partition['keys'] / partition['capacity']:>7.0%}"
            f"{established['share'] / established['budget']:>21.0%}   {decides}"
        )
