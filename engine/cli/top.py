"""`tidegate top`: a worker, live on a terminal."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from engine.cli.options import settings_from, url_option
from engine.web.client import Place, ask, place_of

FIRST_S = 0.5
SHOWN = 12


class Rates(NamedTuple):
    """What happened a second between two statuses."""

    events: float
    throttles: float
    cpu: float


def rates(before: dict[str, Any], after: dict[str, Any]) -> Rates:
    """Of two statuses of one worker; nothing if it was started anew in between."""
    seconds = max((after["time_ms"] - before["time_ms"]) / 1000, 1e-3)
    old, new = before["since_start"], after["since_start"]
    if before["pid"] != after["pid"]:
        return Rates(0.0, 0.0, 0.0)
    return Rates(*((new[name] - old[name]) / seconds for name in ("records", "throttles", "cpu_s")))


@click.command(epilog="Example:  tidegate top --interval 2")
@url_option
@click.option("--interval", type=click.FloatRange(0.2, 60.0), default=1.0, show_default=True, help="Seconds a picture.")
@click.option("--once", is_flag=True, help="Show one picture and end.")
@click.pass_context
def top(ctx: click.Context, url: str | None, interval: float, once: bool) -> None:
    """Watch a worker: rates, partitions, who is throttled and why, until Ctrl-C."""
    place, console = place_of(settings_from(ctx), url), Console()
    before = ask(place, "/v1/status")[1]
    time.sleep(FIRST_S)
    if once:
        console.print(picture(place, before, ask(place, "/v1/overview")[1]))
        return
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            seen = ask(place, "/v1/overview")[1]
            live.update(picture(place, before, seen), refresh=True)
            before = seen["status"]
            time.sleep(interval)


def picture(place: Place, before: dict[str, Any], seen: dict[str, Any]) -> RenderableType:
    """One screen. ``before``: an earlier status; ``seen``: an overview."""
    status = seen["status"]
    parts: list[RenderableType] = [_head(place, rates(before, status), status)]
    parts += [Text(f"not well: {said}", style="bold red") for said in seen["complaints"]]
    parts += [_partitions(status["partitions"]), Text()]
    shadows = f" and {seen['shadows']:,} in shadow" if seen["shadows"] or status["shadow"] else ""
    parts.append(Text(f"{seen['live']:,} throttles in force{shadows}, the latest first", style="bold"))
    parts += [_decision(made) for made in seen["decisions"][:SHOWN]]
    parts += [Text(), Text("furthest above their own most in the last hour", style="bold")]
    parts += [_mover(found) for found in seen["movers"][:SHOWN]]
    return Group(*parts)


def _decision(made: dict[str, Any]) -> Text:
    until = time.strftime("%H:%M", time.localtime(made["until"] / 1000))
    return Text.assemble(
        (f"{made['network']:<22}", "cyan"), f"{made['reason']:<10}until {until}  {made['words']}", no_wrap=True
    )


def _mover(found: dict[str, Any]) -> Text:
    against = f"its own most was {found['expected']:,.1f}" if found["active_days"] else "new here"
    held = ("  in shadow" if found["shadow"] else "  throttled") if found["until"] else ""
    return Text.assemble(
        (f"{found['address']:<22}", "cyan"), f"{found['messages']:>10,.0f} messages; {against}{held}", no_wrap=True
    )


def _head(place: Place, now: Rates, status: dict[str, Any]) -> Text:
    throttled = sum(one["throttled"] for one in status["partitions"].values())
    late = status["since_start"]["decision_s"]["p99"]
    return Text.assemble(
        ("tidegate ", "bold"),
        f"{place}   ",
        (f"{now.events:,.0f}", "bold"),
        " events/s   ",
        (f"{60 * now.throttles:,.1f}", "bold"),
        " throttles/min   ",
        (f"{throttled:,}", "bold"),
        f" throttled now   {status['keys']:,} senders   {now.cpu:.0%} CPU   ",
        "no decision yet" if late is None else f"99 % of decisions within {late:g} s",
    )


def _partitions(partitions: dict[str, Any]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("partition", "behind", "seconds", "senders", "full", "throttled", "of budget", "T", "checkpoint s"):
        table.add_column(name, justify="right")
    for number, one in sorted(partitions.items(), key=lambda item: int(item[0])):
        established = one["established"]
        table.add_row(
            number,
            "?" if one["lag"] is None else f"{one['lag']:,}",
            f"{one['lag_s']:,.1f}",
            f"{one['keys']:,}",
            f"{one['keys'] / one['capacity']:.0%}",
            f"{one['throttled']:,}",
            f"{established['share'] / established['budget']:.0%}",
            f"{one['threshold']:.2f}" if one["decides"] else "learns",
            f"{one['checkpoint_age_s']:.1f}",
        )
    return table
