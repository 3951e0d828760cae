"""`tidegate explain`: why a sender is throttled or not, in words and numbers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
import orjson

from engine.analysis.simulated_edge import place_of
from engine.cli.decisions import read_decisions
from engine.cli.files import event_files, progress
from engine.cli.options import bootstrap_option, settings_from
from engine.cli.replay import report_poison
from engine.config.load import Settings
from engine.overrides.changes import InForce
from engine.overrides.store import OverrideTopic
from topics.decisions import BadDecision, Decision, decode_decision
from topics.errors import OperatorError
from topics.keys import key_of, key_of_network, key_text
from topics.partitioner import partition_of

if TYPE_CHECKING:
    from engine.analysis.explanation import Explanation

EVENTS = click.Path(exists=True, dir_okay=False, allow_dash=True)
NO_SOURCE = "explain from what? Give files of events, or a cluster: --bootstrap HOST:PORT"


@click.command(epilog="Example:  tidegate explain 192.0.2.7 events.ndjson.gz --at 2026-11-25T09:30")
@click.argument("network")
@click.argument("events", nargs=-1, type=EVENTS)
@bootstrap_option
@click.option("--at", metavar="TIME", help="As of then, UTC.  [default: the last event; with a cluster: now]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of words.")
@click.option("--verify", is_flag=True, help="Compute its decisions again from the events, and compare byte for byte.")
@click.option(
    "--decisions", metavar="FILE", help="With --verify and EVENTS: the decisions, NDJSON; NETWORK may be `all` then."
)
@click.pass_context
def explain(ctx: click.Context, /, network: str, events: tuple[str, ...], **options: Any) -> None:
    """Say why NETWORK (an address, an IPv4 /32 or an IPv6 /64) is throttled or not.

    With EVENTS (NDJSON, plain or gzip) they are replayed up to --at. Without, the answer comes from a cluster: the state as
    its last checkpoint has it, and the decisions on the topic.

    With --verify the events are gone through again from the beginning, those of the topic without EVENTS. A decision that isn't
    what they lead to is told with what differs, which input changed (the configuration, the model, its own events, others')
    and in which offsets; exit status 1 then. On a cluster the checkpoints that are left narrow it down. What a site learned
    from old logs (`tidegate warm`) isn't on its topic, so nothing that rests on it is equal.
    """
    if options["verify"]:
        from engine.cli.verify import verified

        ctx.exit(verified(ctx, network, events, options))
    settings, key = settings_from(ctx, kafka_bootstrap=options["bootstrap"]), key_from(network)
    from engine.analysis.explanation import in_lines
    from engine.pipeline import build
    from engine.pipeline.precompile import warm
    from engine.service.worker import check_topics
    from topics.times import moment_ms

    build.engines_own(settings, "explain")
    at_ms = None if options["at"] is None else moment_ms(options["at"])
    if not events and not settings.kafka.bootstrap:
        raise OperatorError(NO_SOURCE)
    warm()
    if not events:
        check_topics(settings, create=False)
    found = from_files(settings, key, at_ms, events) if events else asyncio.run(from_cluster(settings, key, at_ms))
    if options["as_json"]:
        click.echo(orjson.dumps(found.as_json()))
    else:
        click.echo("\n".join(in_lines(found)))


def key_from(network: str) -> int:
    """The key of an address or a network. OperatorError if it is neither."""
    try:
        return key_of_network(network) if "/" in network else key_of(network)
    except ValueError as error:
        raise OperatorError(f"{error}: give an IPv4 or IPv6 address, an IPv4 /32 or an IPv6 /64") from None


def from_files(settings: Settings, key: int, at_ms: int | None, events: tuple[str, ...]) -> Explanation:
    """Replay the files up to the moment."""
    from engine.analysis import explanation
    from engine.pipeline import build
    from engine.pipeline.replay import EventReader

    engine = build.replay(settings, EventReader() if at_ms is None else EventReader(at_ms))
    decisions: list[Decision] = []
    for source in event_files(events, "replay"):
        for found in engine.run(source):
            decisions += [decision for decision in found if place_of(decision.network).holds(key)]
    report_poison(engine.tally)
    if not engine.tally.events:
        raise OperatorError("no event up to then" if at_ms is not None else "no event in these files")
    clocks = [int(partition.state.site["clock_ms"][0]) for partition in engine.partitions]
    partition = engine.partitions[partition_of(key_text(key).encode(), settings.topics.partitions)]
    moment = max(clocks) if at_ms is None else at_ms
    return explanation.explain(partition, key, moment, decisions, engine.composer.config)


async def from_cluster(settings: Settings, key: int, at_ms: int | None) -> Explanation:
    """Read the sender's partition of the state, and the decisions."""
    from engine.analysis import explanation
    from engine.pipeline import build
    from engine.worker.cluster_reader import partition_state
    from topics.times import moment

    decisions = await decisions_on(settings, key)
    async with OverrideTopic(settings) as topic:
        said, _ = await topic.read()
    number = partition_of(key_text(key).encode(), settings.topics.partitions)
    with progress(100, "state") as bar:
        partition = await partition_state(
            settings, number, lambda read: bar.update(bar.task_ids[0], completed=100 * read.share)
        )
    applied_ms = int(partition.state.site["clock_ms"][0])
    now_ms = max(int(time.time() * 1000), applied_ms) if at_ms is None else at_ms
    if now_ms < applied_ms:
        raise OperatorError(
            f"the state on the cluster is of {moment(applied_ms)} and can't go back: give EVENTS to look at an earlier time"
        )
    found = explanation.explain(partition, key, now_ms, decisions, build.composer(settings).config)
    return replace(found, overrides=InForce(said, now_ms).covering(found.network))


async def decisions_on(settings: Settings, key: int) -> list[Decision]:
    """The decisions on a sender and on the networks around it that the topic still has, in the order of their issue."""
    found = []
    async for value in read_decisions(settings, follow=False):
        try:
            decision = decode_decision(value)
        except BadDecision:
            continue
        if place_of(decision.network).holds(key):
            found.append(decision)
    return sorted(found, key=lambda decision: decision.issued)
