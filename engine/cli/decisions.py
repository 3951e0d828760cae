"""`tidegate decisions`: the decisions topic, readable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import click

from engine.cli.options import bootstrap_option, settings_from
from engine.cli.worker import NO_CLUSTER
from engine.config.load import Settings
from engine.kafka.follow import TopicReader
from topics.contracts import DECISIONS
from topics.decisions import RELEASE_HEADER, SHADOW, BadDecision, Decision, decode_decision
from topics.errors import OperatorError
from topics.words import in_words


@click.command(epilog="Example:  tidegate decisions --bootstrap kafka1:9092 --no-follow")
@bootstrap_option
@click.option("--follow/--no-follow", default=True, show_default=True, help="Go on with what comes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of words.")
@click.pass_context
def decisions(ctx: click.Context, bootstrap: str | None, follow: bool, as_json: bool) -> None:
    """Show the decisions on the topic, oldest first, then follow it until Ctrl-C."""
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    if not settings.kafka.bootstrap:
        raise OperatorError(NO_CLUSTER)
    from engine.service.worker import check_topics

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
    """A decision as a line: when, which reply, and why."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(decision.issued / 1000))
    reply = "release"
    if decision.reply:
        code = "shadow" if decision.verdict == SHADOW else decision.reply["code"]
        reply = f"{code} {decision.reply['status']} {decision.reply['tag']}"
    return f"{stamp}  {reply:<24}  {in_words(decision)}"


async def read_decisions(settings: Settings, *, follow: bool) -> AsyncIterator[bytes]:
    """Yield the JSON of all decisions and releases, in order within a partition; then end, or ``follow`` the topic."""
    topic = settings.topics.prefix + DECISIONS.name
    async with TopicReader([topic], settings.kafka.client_options(), until_end=not follow) as reader:
        async for records in reader:
            for record in records:
                value = record.value or dict(record.headers).get(RELEASE_HEADER)
                if value is not None:
                    yield value
