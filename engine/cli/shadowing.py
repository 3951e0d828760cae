"""`tidegate compare --shadow`: what decisions in shadow would have done beside those that were live."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import click

from engine.analysis.backtest import LIVE, WITH_SHADOW, Recorded, contest, newer
from engine.analysis.comparison import Comparison, compare
from engine.analysis.senders import Senders
from engine.cli.decisions import read_decisions
from engine.cli.files import event_files, progress
from engine.cli.options import settings_from
from engine.cli.replay import report_poison
from engine.cli.verify import decisions_of
from engine.config.load import Settings
from engine.pipeline.precompile import warm
from engine.service.worker import check_topics
from engine.worker.cluster_reader import connection_events
from topics.contracts import CONNECTIONS
from topics.decisions import SHADOW, BadDecision, Decision, decode_decision
from topics.errors import OperatorError

NO_SOURCE = "compare from what? Give --decisions FILE and files of events, or a cluster: --bootstrap HOST:PORT"


def compared(ctx: click.Context, events: Sequence[str], options: dict[str, Any]) -> tuple[Comparison, int]:
    """The answer, and how many events it is made of."""
    settings, delay_ms = settings_from(ctx, kafka_bootstrap=options["bootstrap"]), options["delay"]
    if not events and not settings.kafka.bootstrap:
        raise OperatorError(NO_SOURCE)
    warm()
    if events:
        pair = pair_of(decisions_of(options["decisions"]), delay_ms)
        tally = contest(pair, event_files(events, "compare"))
        report_poison(tally)
        count = tally.events
    else:
        check_topics(settings, create=False)
        pair = pair_of(asyncio.run(published(settings)), delay_ms)
        count = asyncio.run(go_through(settings, pair))
    live, both = pair
    return compare(live.ledger, both.ledger), count


def pair_of(decisions: Sequence[Decision], delay_ms: int) -> tuple[Recorded, Recorded]:
    """Both readings of a record. OperatorError if nothing in it is in shadow."""
    found = list(newer(decisions))
    if not any(made.verdict == SHADOW for made in found):
        raise OperatorError(f"none of {len(found):,} decisions is in shadow: nothing to compare")
    return Recorded(found, LIVE, delay_ms), Recorded(found, WITH_SHADOW, delay_ms)


async def published(settings: Settings) -> list[Decision]:
    """What the topic has; what can't be read is passed over, as readers do."""
    found = []
    async for value in read_decisions(settings, follow=False):
        try:
            found.append(decode_decision(value))
        except BadDecision:
            continue
    return found


async def go_through(settings: Settings, pair: Sequence[Recorded]) -> int:
    """Take all events on the topic, partition by partition, as senders stay in theirs; how many."""
    senders, topic, count = Senders(), settings.topics.prefix + CONNECTIONS.name, 0
    with progress(100 * settings.topics.partitions, "topic") as bar:
        for number in range(settings.topics.partitions):
            for one in pair:
                one.turn_to(number, topic)
            async for events, share in connection_events(settings, number):
                seen = senders.of(events)
                for one in pair:
                    one.take(events, seen)
                count += len(events.key)
                bar.update(bar.task_ids[0], completed=100 * (number + share))
    return count
