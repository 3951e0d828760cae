"""`tidegate decisions`: print and follow the decisions topic."""

from __future__ import annotations

import asyncio
import time

import click

from engine.cli.options import bootstrap_option, require_cluster, settings_from
from engine.cli.sources import read_decisions
from engine.config.load import Settings
from topics.decisions import SHADOW, BadDecision, Decision, decode_decision
from topics.words import decision_text


@click.command(epilog="Example:  tidegate decisions --bootstrap kafka1:9092 --no-follow")
@bootstrap_option
@click.option("--follow/--no-follow", default=True, show_default=True, help="Keep following the topic.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
@click.pass_context
def decisions(ctx: click.Context, bootstrap: str | None, follow: bool, as_json: bool) -> None:
    """Print the decisions on the topic, oldest first, then follow it until Ctrl-C."""
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    require_cluster(settings)
    from engine.kafka.topic_admin import check_topics

    check_topics(settings, create=False)
    asyncio.run(_show(settings, follow=follow, as_json=as_json))


async def _show(settings: Settings, *, follow: bool, as_json: bool) -> None:
    async for value in read_decisions(settings, follow=follow):
        try:
            decision = decode_decision(value)
        except BadDecision as error:
            click.echo(f"unreadable: {error}", err=True)
            continue
        click.echo(value.decode() if as_json else line_of(decision))


def line_of(decision: Decision) -> str:
    """Return a decision as one line: time of issue, reply, reason."""
    issued = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(decision.issued / 1000))
    reply = "release"
    if decision.reply:
        code, status, tag = (decision.reply.get(name, "?") for name in ("code", "status", "tag"))
        reply = f"{'shadow' if decision.verdict == SHADOW else code} {status} {tag}"
    return f"{issued}  {reply:<24}  {decision_text(decision)}"
