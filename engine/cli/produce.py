"""`tidegate produce`: events from files into Kafka, as an edge would send them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click
from rich.progress import Progress

from engine.cli.files import event_file, progress, size_of
from engine.cli.options import bootstrap_option, settings_from
from engine.cli.worker import NO_CLUSTER
from engine.pipeline.replay import whole_lines
from topics.contracts import CONNECTIONS
from topics.errors import OperatorError

if TYPE_CHECKING:
    from engine.kafka.event_producer import EventProducer


@click.command(epilog="Example:  tidegate produce events.ndjson.gz --bootstrap kafka1:9092 --rate 50000")
@click.argument("events", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@bootstrap_option
@click.option(
    "--rate", type=click.FloatRange(min=1), help="Events a second.  [default: as fast as the broker takes them]"
)
@click.option(
    "--codec", type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]), default="lz4", show_default=True,
    help="How batches are compressed.",
)  # fmt: skip
@click.pass_context
def produce(ctx: click.Context, events: tuple[str, ...], bootstrap: str | None, rate: float | None, codec: str) -> None:
    """Send events (NDJSON, plain or gzip, - for standard input) to the connections topic.

    Records are keyed and stamped as an edge would: record key, event time as record timestamp. Lines that are no events are
    counted and left out; the exit status is then 1.
    """
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    if not settings.kafka.bootstrap:
        raise OperatorError(NO_CLUSTER)
    from engine.kafka.event_producer import EventProducer
    from engine.service.worker import check_topics

    check_topics(settings, create=False)
    ours = settings.topics
    producer = EventProducer(
        ours.prefix + CONNECTIONS.name, ours.partitions, codec, settings.kafka.client_options(), ours.retention_ms
    )
    with progress(size_of(list(events)), "produce") as bar:
        seconds = asyncio.run(_produce(producer, list(events), rate, bar))
    sent = producer.produced
    click.echo(f"{sent.events:,} events in {seconds:.2f} s ({sent.events / seconds:,.0f}/s)", err=True)
    if sent.poison:
        click.echo(f"{sent.poison:,} lines are no events and were left out: {', '.join(sent.examples)}", err=True)
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
