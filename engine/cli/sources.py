"""Events, decisions and overrides that commands read, from files or from the topics of a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator

import click

from engine.cli.files import numbered_lines
from engine.config.load import Settings
from engine.kafka.follow import TopicReader
from engine.overrides.store import OverrideTopic
from engine.pipeline.replay import ReplayCounts
from topics.contracts import DECISIONS
from topics.decisions import RELEASE_HEADER, BadDecision, Decision, decode_decision
from topics.errors import OperatorError
from topics.keys import key_of
from topics.networks import key_of_network, network_of
from topics.overrides import OverrideRecord

EVENTS = click.Path(exists=True, dir_okay=False, allow_dash=True)
NO_SOURCE = "no events given: pass files, or --bootstrap HOST:PORT"


def key_from(network: str) -> int:
    """Return the key of an address or a network. Raise OperatorError if it is neither."""
    try:
        return key_of_network(network) if "/" in network else key_of(network)
    except ValueError as error:
        raise OperatorError(f"{error}: give an IPv4 or IPv6 address, an IPv4 /32 or an IPv6 /64") from None


async def read_decisions(settings: Settings, *, follow: bool) -> AsyncIterator[bytes]:
    """Yield the JSON of all decisions and releases, in order within a partition; then end, or follow the topic."""
    topic = settings.topics.prefix + DECISIONS.name
    async with TopicReader([topic], settings.kafka.client_options(), until_end=not follow) as reader:
        async for records in reader:
            for record in records:
                value = record.value or dict(record.headers).get(RELEASE_HEADER)
                if value is not None:
                    yield value


async def decisions_of_topic(settings: Settings) -> list[Decision]:
    """Return all decisions on the topic, in order within a partition. Unreadable records are skipped, as in all readers."""
    decisions = []
    async for value in read_decisions(settings, follow=False):
        try:
            decisions.append(decode_decision(value))
        except BadDecision:
            continue
    return decisions


async def decisions_on(settings: Settings, key: int) -> list[Decision]:
    """Return the decisions on the topic for a sender and for the networks around it, in order of issue."""
    decisions = await decisions_of_topic(settings)
    own = [decision for decision in decisions if network_of(decision.network).covers_key(key)]
    return sorted(own, key=lambda decision: decision.issued)


def decisions_of(name: str) -> list[Decision]:
    """Return the decisions in a file. Raise OperatorError for a line that is none."""
    decisions = []
    for number, line in numbered_lines(name, "decisions"):
        try:
            decisions.append(decode_decision(line))
        except BadDecision as error:
            raise OperatorError(f"{name}, line {number}: {error}") from error
    return decisions


async def read_overrides(settings: Settings) -> list[OverrideRecord]:
    """Return the records on the exemptions topic, oldest first. Unreadable ones are skipped, with a line on standard error."""
    async with OverrideTopic(settings) as topic:
        records, unreadable = await topic.read()
    if unreadable:
        click.echo(f"{unreadable} unreadable records on the topic were skipped", err=True)
    return records


def report_poison(counts: ReplayCounts) -> None:
    """Report on standard error the lines that are no events, if any."""
    if counts.poison:
        click.echo(f"{counts.poison:,} lines are not events and were skipped:", err=True)
        for line, reason in counts.examples:
            click.echo(f"  line {line:,}: {reason}", err=True)
