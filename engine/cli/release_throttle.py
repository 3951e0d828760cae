"""`tidegate release` and `tidegate throttle`: an operator's word against the engine's, for a while."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import click

from engine.cli.options import settings_from
from engine.cli.override_output import carry_out, now_ms, order_options, orderer
from engine.overrides.changes import changes
from engine.overrides.parse import end_ms, network_from, rate_per_min, span_ms
from topics.errors import OperatorError
from topics.overrides import EXEMPT, RELEASE, THROTTLE, THROTTLED, Override


@click.command(epilog='Example:  tidegate release 192.0.2.7 --grace 2h --reason "ticket 4711: partner in a hurry"')
@click.argument("network")
@click.option("--grace", metavar="SPAN", default="2h", show_default=True, help="How long nothing may hold it again.")
@order_options
@click.pass_context
def release(ctx: click.Context, /, network: str, grace: str, **options: Any) -> None:
    """Let NETWORK (CIDR or an address) pass at once, whatever holds it, and let nothing hold it again within the grace.

    Edges let it pass as soon as they read the order; workers withdraw every decision on it and on networks within it, and go
    on learning. It also ends a throttle by hand.
    """
    settings, at_ms = settings_from(ctx, kafka_bootstrap=options["bootstrap"]), now_ms()
    try:
        until_ms = at_ms + span_ms(grace)
        wanted = Override(network_from(network), EXEMPT, RELEASE, at_ms, until_ms)
    except ValueError as error:
        raise OperatorError(str(error)) from None
    ordered = signed(wanted, options)
    ctx.exit(carry_out(settings, at_ms, partial(changes, [ordered]), dry_run=options["dry_run"]))


@click.command(epilog="Example:  tidegate throttle 198.51.100.0/24 --rate 60/h --until 12h --reason 'phishing run'")
@click.argument("network")
@click.option("--rate", required=True, metavar="RATE", help="What may pass, such as 60/h or 2/min; 0/h: nothing.")
@click.option("--until", required=True, metavar="TIME", help="Its end: a span such as 12h, or a moment, UTC.")
@click.option("--burst", type=click.FloatRange(1, 1e9), help="Messages at once.  [default: those of an hour]")
@order_options
@click.pass_context
def throttle(ctx: click.Context, /, network: str, rate: str, until: str, burst: float | None, **options: Any) -> None:
    """Hold NETWORK (CIDR or an address) to a rate, all its addresses together, until a time.

    A worker publishes it as a decision whose reason is "override"; on networks within it the engine decides nothing
    meanwhile. Under an exemption it is refused.
    """
    settings, at_ms = settings_from(ctx, kafka_bootstrap=options["bootstrap"]), now_ms()
    try:
        per_min, end = rate_per_min(rate), end_ms(until, at_ms)
        wanted = Override(network_from(network, whole_keys=True), THROTTLE, THROTTLED, at_ms, end, rate_per_min=per_min)
    except ValueError as error:
        raise OperatorError(str(error)) from None
    ordered = signed(wanted, options, burst=max(1.0, per_min * 60) if burst is None else burst)
    ctx.exit(carry_out(settings, at_ms, partial(changes, [ordered]), dry_run=options["dry_run"]))


def signed(override: Override, options: dict[str, Any], burst: float = 0.0) -> Override:
    """The order with who gives it and why."""
    return replace(override, reason=options["reason"], by=orderer(options["by"]), burst=burst)
