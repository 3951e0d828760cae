"""`tidegate plot`: draw a sender's volume, expectation, limit and decisions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.files import event_files, progress
from engine.cli.options import bootstrap_option, require_cluster, settings_from
from engine.cli.sources import key_from, report_poison
from engine.config.load import Settings
from topics.errors import OperatorError
from topics.networks import network_text

if TYPE_CHECKING:
    from engine.analysis.timeline import TimelineReplay

TOPIC = "topic"
SOURCE = "File of events (NDJSON, plain or compressed), or `topic` for the connections topic of --bootstrap."


@click.command(epilog="Example:  tidegate plot 192.0.2.7 --from events.ndjson.gz --out 192.0.2.7.svg")
@click.argument("network")
@click.option("--from", "source", required=True, metavar="FILE|topic", help=SOURCE)
@click.option("--out", metavar="FILE.svg", help="Output file; - for standard output.  [default: NETWORK.svg]")
@click.option("--scale", metavar="NAME", help="Decayed count to show, such as 24h.  [default: most exceeded]")
@click.option("--since", metavar="TIME", help="Start, UTC.  [default: first event]")
@click.option("--until", metavar="TIME", help="End, UTC.  [default: last event]")
@bootstrap_option
@click.pass_context
def plot(
    ctx: click.Context,
    /,
    network: str,
    source: str,
    out: str | None,
    scale: str | None,
    since: str | None,
    until: str | None,
    bootstrap: str | None,
) -> None:
    """Draw NETWORK (an address, an IPv4 /32 or an IPv6 /64) as SVG: volume, expectation, limit and decisions.

    The events are replayed under the local configuration, so the decisions shown are those that it makes. If retention has
    deleted the topic's oldest events, the history begins with the first remaining event.
    """
    settings, key = settings_from(ctx, kafka_bootstrap=bootstrap), key_from(network)
    from engine.analysis.plot import frame_of, svg
    from engine.analysis.timeline import TimelineReplay
    from engine.detector.constants import SCALE_NAMES
    from engine.pipeline import build
    from engine.pipeline.precompile import precompile
    from topics.times import parse_time_ms

    build.require_peak_memory(settings, "plot")
    if scale not in (None, *SCALE_NAMES):
        raise OperatorError(f"unknown scale {scale!r}: give one of {', '.join(SCALE_NAMES)}")
    since_ms, until_ms = (None if text is None else parse_time_ms(text) for text in (since, until))
    precompile()
    replay = TimelineReplay(settings, key)
    if source == TOPIC:
        from_topic(settings, replay)
    else:
        from_file(source, replay)
    timeline = replay.timeline()
    if not len(timeline.samples.ts_ms):
        raise OperatorError(f"{network_text(key)} sent nothing in {source}")
    shown = timeline.most_exceeded_scale() if scale is None else SCALE_NAMES.index(scale)
    picture = svg(timeline, shown, frame_of(timeline, since_ms, until_ms))
    write(picture, out or f"{network_text(key).replace('/', '_').replace(':', '-')}.svg")


def write(picture: str, name: str) -> None:
    """Write the picture to a file, or to standard output for ``-``."""
    if name == "-":
        click.echo(picture, nl=False)
    else:
        Path(name).write_text(picture, encoding="utf-8")
        click.echo(f"{name} written", err=True)


def from_file(source: str, replay: TimelineReplay) -> None:
    """Replay a file."""
    from engine.pipeline.replay import EventReader

    reader = EventReader()
    for file in event_files([source], "replay"):
        for events in reader.blocks(file):
            replay.apply_site(events)
    report_poison(reader.counts)


def from_topic(settings: Settings, replay: TimelineReplay) -> None:
    """Replay the sender's partition of the topic."""
    require_cluster(settings)
    from engine.kafka.topic_admin import check_topics
    from engine.worker.cluster_reader import connection_events

    check_topics(settings, create=False)

    async def read() -> None:
        with progress(100, "topic") as bar:
            async for events, share in connection_events(settings, replay.number):
                replay.apply_partition(events)
                bar.update(bar.task_ids[0], completed=100 * share)

    asyncio.run(read())
