"""`tidegate release` and `tidegate throttle`: overrides of a network for a limited time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import click

from engine.cli.options import settings_from
from engine.cli.override_output import OverrideRequest, now_ms, override_options, write_overrides
from engine.overrides.changes import plan_overrides
from engine.overrides.parse import parse_end_ms, parse_network, parse_rate_per_min, parse_span_ms
from topics.errors import OperatorError
from topics.overrides import EXEMPT, RELEASE, THROTTLE, THROTTLED, Override


@click.command(epilog='Example:  tidegate release 192.0.2.7 --grace 2h --reason "ticket 4711: partner in a hurry"')
@click.argument("network")
@click.option("--grace", metavar="SPAN", default="2h", show_default=True, help="Time without new throttles.")
@override_options
@click.pass_context
def release(ctx: click.Context, /, network: str, grace: str, request: OverrideRequest) -> None:
    """Release NETWORK (CIDR or an address) immediately, and issue no throttle on it within the grace time.

    Edges let its mail pass as soon as they read the release. Workers withdraw all decisions on it and on networks within it,
    and go on learning. A manual throttle of it ends as well.
    """
    settings, at_ms = settings_from(ctx, kafka_bootstrap=request.bootstrap), now_ms()
    try:
        until_ms = at_ms + parse_span_ms(grace)
        override = Override(parse_network(network), EXEMPT, RELEASE, at_ms, until_ms)
    except ValueError as error:
        raise OperatorError(str(error)) from None
    override = replace(override, reason=request.reason, by=request.author, forced=request.force)
    ctx.exit(write_overrides(settings, partial(plan_overrides, [override]), dry_run=request.dry_run))


@click.command(epilog="Example:  tidegate throttle 198.51.100.0/24 --rate 60/h --until 12h --reason 'phishing run'")
@click.argument("network")
@click.option("--rate", required=True, metavar="RATE", help="Rate of messages, such as 60/h or 2/min; 0/h: none.")
@click.option("--until", required=True, metavar="TIME", help="End: a span such as 12h, or a time, UTC.")
@click.option("--burst", type=click.FloatRange(1, 1e9), help="Burst in messages.  [default: those of an hour]")
@override_options
@click.pass_context
def throttle(
    ctx: click.Context, /, network: str, rate: str, until: str, burst: float | None, request: OverrideRequest
) -> None:
    """Throttle NETWORK (CIDR or an address) to one rate for all its addresses together, until a time.

    A worker publishes it as a decision with reason "override". Meanwhile the engine issues no decisions on networks within it.
    It is refused under an exemption.
    """
    settings, at_ms = settings_from(ctx, kafka_bootstrap=request.bootstrap), now_ms()
    try:
        per_min, until_ms = parse_rate_per_min(rate), parse_end_ms(until, at_ms)
        network = parse_network(network, whole_keys=True)
    except ValueError as error:
        raise OperatorError(str(error)) from None
    override = Override(
        network, THROTTLE, THROTTLED, at_ms, until_ms, reason=request.reason, by=request.author, rate_per_min=per_min,
        burst=max(1.0, per_min * 60) if burst is None else burst, forced=request.force,
    )  # fmt: skip
    ctx.exit(write_overrides(settings, partial(plan_overrides, [override]), dry_run=request.dry_run))
