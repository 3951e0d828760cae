"""`tidegate decisions`: the decisions topic, readable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import click
from aiokafka import AIOKafkaConsumer, TopicPartition

from engine.cli.options import bootstrap_option, settings_from
from engine.cli.worker import NO_CLUSTER
from engine.config.load import Settings
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
    """The JSON of all decisions and releases on the topic, partition by partition in order; goes on for ever if
    ``follow``, else ends with what is there now."""
    consumer = AIOKafkaConsumer(auto_offset_reset="earliest", **settings.kafka.client_options())
    await consumer.start()
    try:
        topic = settings.topics.prefix + DECISIONS.name
        numbers = consumer.partitions_for_topic(topic) or await _partitions(consumer, topic)
        tps = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        while follow or any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    value = record.value or dict(record.headers).get(RELEASE_HEADER)
                    if value is not None:
                        yield value
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer._client._wait_on_metadata(topic)
    return consumer.partitions_for_topic(topic) or set()
