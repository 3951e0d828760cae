"""`tidegate produce`: publish events from files, as an edge would."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click
from rich.progress import Progress

from engine.cli.files import event_file, progress, size_of
from engine.cli.options import bootstrap_option, require_cluster, settings_from
from engine.cli.sources import EVENTS
from engine.pipeline.replay import whole_lines
from topics.contracts import CONNECTIONS

if TYPE_CHECKING:
    from engine.kafka.event_producer import EventProducer


@click.command(epilog="Example:  tidegate produce events.ndjson.gz --bootstrap kafka1:9092 --rate 50000")
@click.argument("events", nargs=-1, required=True, type=EVENTS)
@bootstrap_option
@click.option("--rate", type=click.FloatRange(min=1), help="Events per second.  [default: unlimited]")
@click.option(
    "--codec", type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]), default="lz4", show_default=True,
    help="Compression of batches.",
)  # fmt: skip
@click.pass_context
def produce(ctx: click.Context, events: tuple[str, ...], bootstrap: str | None, rate: float | None, codec: str) -> None:
    """Publish events (NDJSON, plain or compressed, - for standard input) to the connections topic.

    Record keys and timestamps (the event time) are those that an edge would set. Lines that are not events are counted and
    skipped; the exit status is 1 then.
    """
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    require_cluster(settings)
    from engine.kafka.event_producer import EventProducer
    from engine.kafka.topic_admin import check_topics

    check_topics(settings, create=False, needed=(CONNECTIONS,))
    topics = settings.topics
    producer = EventProducer(
        topics.prefix + CONNECTIONS.name, topics.partitions, codec, settings.kafka.client_options(), topics.retention_ms
    )
    with progress(size_of(list(events)), "produce") as bar:
        seconds = asyncio.run(_produce(producer, list(events), rate, bar))
    sent = producer.produced
    click.echo(f"{sent.events:,} events in {seconds:.2f} s ({sent.events / seconds:,.0f}/s)", err=True)
    if sent.poison:
        click.echo(f"{sent.poison:,} lines are not events and were skipped: {', '.join(sent.examples)}", err=True)
    ctx.exit(1 if sent.poison else 0)


async def _produce(producer: EventProducer, names: list[str], rate: float | None, bar: Progress) -> float:
    started_s = time.monotonic()
    await producer.start()
    try:
        for name in names:
            with event_file(name, bar) as source:
                for text in whole_lines(source, int(min(rate / 20, 1 << 13)) * 100 if rate else 1 << 20):
                    await producer.send(text)
                    if rate:
                        await asyncio.sleep(started_s + producer.produced.events / rate - time.monotonic())
    finally:
        await producer.stop()
    return max(time.monotonic() - started_s, 1e-9)
