"""`tidegate explain`: why a sender is throttled or not, in words and numbers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click
import orjson

from engine.cli.files import event_files, progress
from engine.cli.options import bootstrap_option, settings_from
from engine.cli.sources import EVENTS, NO_SOURCE, decisions_on, key_from, read_overrides, report_poison
from engine.config.load import Settings
from engine.decisions.override_index import OverrideIndex
from topics.decisions import Decision
from topics.errors import OperatorError
from topics.keys import key_text
from topics.networks import network_of
from topics.partitioner import partition_of

if TYPE_CHECKING:
    from engine.analysis.explanation import Explanation


@click.command(epilog="Example:  tidegate explain 192.0.2.7 events.ndjson.gz --at 2026-11-25T09:30")
@click.argument("network")
@click.argument("events", nargs=-1, type=EVENTS)
@bootstrap_option
@click.option("--at", metavar="TIME", help="Time to explain, UTC.  [default: last event; on a cluster: now]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--verify", is_flag=True, help="Recompute NETWORK's decisions from the events and compare them.")
@click.option(
    "--decisions", metavar="FILE", help="With --verify and EVENTS: published decisions, NDJSON; NETWORK may be `all`."
)
@click.pass_context
def explain(
    ctx: click.Context,
    /,
    network: str,
    events: tuple[str, ...],
    bootstrap: str | None,
    at: str | None,
    as_json: bool,
    verify: bool,
    decisions: str | None,
) -> None:
    """Explain why NETWORK (an address, an IPv4 /32 or an IPv6 /64) is throttled or not.

    With EVENTS (NDJSON, plain or compressed), they are replayed up to --at. Without EVENTS, the last checkpoint and the
    decisions are read from the cluster.

    With --verify, the decisions on NETWORK are recomputed from the beginning of EVENTS, or of the topic, and compared byte for
    byte. For each difference the changed input is named (configuration, model, events) with the offsets in which the events
    changed; the exit status is 1 then. Logs given to `tidegate warm` aren't on the topic, so decisions that depend on them
    differ.
    """
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    if verify:
        from engine.cli.verify import verify_network

        ctx.exit(verify_network(settings, network, events, decisions, as_json=as_json))
    key = key_from(network)
    from engine.analysis.explanation import in_lines
    from engine.kafka.topic_admin import check_topics
    from engine.pipeline import build
    from engine.pipeline.precompile import precompile
    from topics.times import parse_time_ms

    build.require_peak_memory(settings, "explain")
    at_ms = None if at is None else parse_time_ms(at)
    if not events and not settings.kafka.bootstrap:
        raise OperatorError(NO_SOURCE)
    precompile()
    if not events:
        check_topics(settings, create=False)
    result = from_files(settings, key, at_ms, events) if events else asyncio.run(from_cluster(settings, key, at_ms))
    if as_json:
        click.echo(orjson.dumps(result.as_json()))
    else:
        click.echo("\n".join(in_lines(result)))


def from_files(settings: Settings, key: int, at_ms: int | None, events: tuple[str, ...]) -> Explanation:
    """Replay the files up to `at_ms`, or to their end, and explain the sender's state then."""
    from engine.analysis import explanation
    from engine.pipeline import build
    from engine.pipeline.replay import EventReader

    engine = build.replay(settings, EventReader() if at_ms is None else EventReader(at_ms))
    decisions: list[Decision] = []
    for source in event_files(events, "replay"):
        for made in engine.run(source):
            decisions += [decision for decision in made if network_of(decision.network).covers_key(key)]
    report_poison(engine.counts)
    if not engine.counts.events:
        raise OperatorError("no event up to --at" if at_ms is not None else "no event in these files")
    clocks = [int(partition.state.site["clock_ms"][0]) for partition in engine.partitions]
    partition = engine.partitions[partition_of(key_text(key).encode(), settings.topics.partitions)]
    explained_ms = max(clocks) if at_ms is None else at_ms
    return explanation.explain(partition, key, explained_ms, decisions, engine.composer.config)


async def from_cluster(settings: Settings, key: int, at_ms: int | None) -> Explanation:
    """Read the sender's partition of the state topic and the decisions, and explain the sender's state at `at_ms` or now."""
    from engine.analysis import explanation
    from engine.pipeline import build
    from engine.worker.cluster_reader import partition_state
    from topics.times import time_text

    decisions = await decisions_on(settings, key)
    overrides = await read_overrides(settings)
    number = partition_of(key_text(key).encode(), settings.topics.partitions)
    with progress(100, "state") as bar:
        partition = await partition_state(
            settings, number, lambda read: bar.update(bar.task_ids[0], completed=100 * read.share)
        )
    applied_ms = int(partition.state.site["clock_ms"][0])
    now_ms = max(int(time.time() * 1000), applied_ms) if at_ms is None else at_ms
    if now_ms < applied_ms:
        raise OperatorError(
            f"--at is earlier than the state on the cluster, which is of {time_text(applied_ms)}: give EVENTS to replay"
        )
    result = explanation.explain(partition, key, now_ms, decisions, build.composer(settings).config)
    return replace(result, overrides=OverrideIndex(overrides).unexpired_around(result.network, now_ms))
