"""`tidegate plot`: a sender's volume, expectation, limit and decisions as a picture."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.explain import key_from
from engine.cli.files import event_files, progress
from engine.cli.options import bootstrap_option, settings_from
from engine.cli.worker import NO_CLUSTER
from engine.config.load import Settings
from topics.errors import OperatorError
from topics.keys import network_text

if TYPE_CHECKING:
    from engine.analysis.timeline import Follower

TOPIC = "topic"
SOURCE = "A file of events (NDJSON, plain or gzip), or the word topic: the connections topic of --bootstrap."


@click.command(epilog="Example:  tidegate plot 192.0.2.7 --from events.ndjson.gz --out 192.0.2.7.svg")
@click.argument("network")
@click.option("--from", "source", required=True, metavar="TRACE|topic", help=SOURCE)
@click.option(
    "--out", metavar="FILE.svg", help="Where the picture goes; - for standard output.  [default: NETWORK.svg]"
)
@click.option("--scale", metavar="NAME", help="Which leaky count to show, such as 24h.  [default: the one that spoke]")
@click.option("--since", metavar="TIME", help="Begin there, UTC.  [default: the first event]")
@click.option("--until", metavar="TIME", help="End there, UTC.  [default: the last event]")
@bootstrap_option
@click.pass_context
def plot(ctx: click.Context, /, network: str, source: str, **options: Any) -> None:
    """Draw NETWORK (an address, an IPv4 /32 or an IPv6 /64) as SVG: volume, expectation, limit and decisions.

    The events are replayed under this configuration, so the decisions shown are those that it makes on them. On a topic that
    has lost its oldest events to retention, the history begins with what is left.
    """
    settings, key = settings_from(ctx, kafka_bootstrap=options["bootstrap"]), key_from(network)
    from engine.analysis.plot import frame_of, svg
    from engine.analysis.timeline import Follower
    from engine.detector.constants import SCALE_NAMES
    from engine.pipeline import build
    from engine.pipeline.precompile import warm
    from topics.times import moment_ms

    build.engines_own(settings, "plot")
    if options["scale"] not in (None, *SCALE_NAMES):
        raise OperatorError(f"no count named {options['scale']!r}: there are {', '.join(SCALE_NAMES)}")
    since_ms, until_ms = (None if options[name] is None else moment_ms(options[name]) for name in ("since", "until"))
    warm()
    follower = Follower(settings, key)
    if source == TOPIC:
        from_topic(settings, follower)
    else:
        from_file(source, follower)
    timeline = follower.timeline()
    if not len(timeline.samples.ts_ms):
        raise OperatorError(f"{network_text(key)} sent nothing in {source}")
    scale = timeline.telling_scale() if options["scale"] is None else SCALE_NAMES.index(options["scale"])
    picture = svg(timeline, scale, frame_of(timeline, since_ms, until_ms))
    write(picture, options["out"] or f"{network_text(key).replace('/', '_').replace(':', '-')}.svg")


def write(picture: str, name: str) -> None:
    """Put the picture there, and say where."""
    if name == "-":
        click.echo(picture, nl=False)
    else:
        Path(name).write_text(picture, encoding="utf-8")
        click.echo(f"{name} written", err=True)


def from_file(source: str, follower: Follower) -> None:
    """Replay a file."""
    from engine.cli.replay import report_poison
    from engine.pipeline.replay import EventReader

    reader = EventReader()
    for file in event_files([source], "replay"):
        for events in reader.blocks(file):
            follower.take(events)
    report_poison(reader.tally)


def from_topic(settings: Settings, follower: Follower) -> None:
    """Replay the sender's partition of the topic."""
    if not settings.kafka.bootstrap:
        raise OperatorError(NO_CLUSTER)
    from engine.service.worker import check_topics
    from engine.worker.cluster_reader import connection_events

    check_topics(settings, create=False)

    async def read() -> None:
        with progress(100, "topic") as bar:
            async for events, share in connection_events(settings, follower.number):
                follower.follow(events)
                bar.update(bar.task_ids[0], completed=100 * share)

    asyncio.run(read())
