"""`tidegate top`: a worker's rates, partitions and throttled senders, live on a terminal."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from engine.cli.options import settings_from, url_option
from engine.web.client import WorkerAddress, get_json, worker_address

FIRST_S = 0.5
SHOWN = 12


class Rates(NamedTuple):
    """Rates per second between two statuses of a worker."""

    events: float
    throttles: float
    cpu: float  # CPU seconds per second


def rates(before: dict[str, Any], after: dict[str, Any]) -> Rates:
    """Return the rates between two statuses of a worker, 0 if it restarted in between."""
    seconds = max((after["time_ms"] - before["time_ms"]) / 1000, 1e-3)
    old, new = before["since_start"], after["since_start"]
    if before["pid"] != after["pid"]:
        return Rates(0.0, 0.0, 0.0)
    return Rates(*((new[name] - old[name]) / seconds for name in ("records", "throttles", "cpu_s")))


@click.command(epilog="Example:  tidegate top --interval 2")
@url_option
@click.option(
    "--interval", type=click.FloatRange(0.2, 60.0), default=1.0, show_default=True, help="Seconds between updates."
)
@click.option("--once", is_flag=True, help="Print once and exit.")
@click.pass_context
def top(ctx: click.Context, url: str | None, interval: float, once: bool) -> None:
    """Watch a worker until Ctrl-C: rates, partitions, throttled senders with reasons."""
    address, console = worker_address(settings_from(ctx), url), Console()
    before = get_json(address, "/v1/status")[1]
    time.sleep(FIRST_S)
    if once:
        console.print(picture(address, before, get_json(address, "/v1/overview")[1]))
        return
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            overview = get_json(address, "/v1/overview")[1]
            live.update(picture(address, before, overview), refresh=True)
            before = overview["status"]
            time.sleep(interval)


def picture(address: WorkerAddress, before: dict[str, Any], overview: dict[str, Any]) -> RenderableType:
    """Return one screen. `before` is an earlier status."""
    status = overview["status"]
    parts: list[RenderableType] = [_head(address, rates(before, status), status)]
    parts += [Text(f"problem: {problem}", style="bold red") for problem in overview["problems"]]
    parts += [_partitions(status["partitions"]), Text()]
    in_shadow = f" and {overview['in_shadow']:,} in shadow" if overview["in_shadow"] or status["shadow"] else ""
    parts.append(Text(f"{overview['active']:,} active throttles{in_shadow}, latest first", style="bold"))
    parts += [_decision(decision) for decision in overview["decisions"][:SHOWN]]
    parts += [Text(), Text("furthest above their own peak in the last hour", style="bold")]
    parts += [_sender(sender) for sender in overview["top_senders"][:SHOWN]]
    return Group(*parts)


def _decision(decision: dict[str, Any]) -> Text:
    until = time.strftime("%H:%M", time.localtime(decision["until"] / 1000))
    return Text.assemble(
        (f"{decision['network']:<22}", "cyan"),
        f"{decision['reason']:<10}until {until}  {decision['words']}",
        no_wrap=True,
    )


def _sender(sender: dict[str, Any]) -> Text:
    against = f"its own peak was {sender['expected']:,.1f}" if sender["active_days"] else "newcomer"
    state = ("  in shadow" if sender["shadow"] else "  throttled") if sender["until"] else ""
    return Text.assemble(
        (f"{sender['address']:<22}", "cyan"), f"{sender['messages']:>10,.0f} messages; {against}{state}", no_wrap=True
    )


def _head(address: WorkerAddress, now: Rates, status: dict[str, Any]) -> Text:
    throttled = sum(partition["throttled"] for partition in status["partitions"].values())
    latency_s = status["since_start"]["decision_s"]["p99"]
    return Text.assemble(
        ("tidegate ", "bold"),
        f"{address}   ",
        (f"{now.events:,.0f}", "bold"),
        " events/s   ",
        (f"{60 * now.throttles:,.1f}", "bold"),
        " throttles/min   ",
        (f"{throttled:,}", "bold"),
        f" throttled now   {status['keys']:,} senders   {now.cpu:.0%} CPU   ",
        "no decision yet" if latency_s is None else f"99 % of decisions within {latency_s:g} s",
    )


def _partitions(partitions: dict[str, Any]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in (
        "partition",
        "lag",
        "seconds",
        "senders",
        "full",
        "throttled",
        "of budget",
        "threshold",
        "checkpoint s",
    ):
        table.add_column(name, justify="right")
    for number, partition in sorted(partitions.items(), key=lambda item: int(item[0])):
        established = partition["established"]
        table.add_row(
            number,
            "?" if partition["lag"] is None else f"{partition['lag']:,}",
            f"{partition['lag_s']:,.1f}",
            f"{partition['keys']:,}",
            f"{partition['keys'] / partition['capacity']:.0%}",
            f"{partition['throttled']:,}",
            f"{established['share'] / established['budget']:.0%}",
            f"{partition['threshold']:.2f}" if partition["decides"] else "learning",
            f"{partition['checkpoint_age_s']:.1f}",
        )
    return table
