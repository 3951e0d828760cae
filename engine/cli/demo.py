"""`tidegate demo`: process a simulated month of mail with Kafka and the engine, in about a minute."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from engine.cli.options import bootstrap_option, settings_from
from engine.cli.sources import read_decisions
from engine.config.load import Settings
from topics.contracts import CONNECTIONS, UNLIMITED
from topics.decisions import Decision, decode_decision

if TYPE_CHECKING:
    from engine.demo.events import SimulatedEvents
    from engine.demo.runner import DemoWorker, Feed
    from engine.demo.screen import Screen

DAY_MS = 86_400_000
LAST_DAY_S = 30.0
REFRESH_S = 0.15
WAIT_S = 120.0


@click.command(epilog="Example:  tidegate demo --seed 7")
@bootstrap_option
@click.option("--seed", type=int, default=1, show_default=True, help="Random seed.")
@click.option(
    "--scale",
    type=click.FloatRange(0.01, 5),
    default=1.0,
    show_default=True,
    help="Number of senders, relative to 9,000 regular ones.",
)
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder for broker data and logs.  [default: temporary]"
)
@click.pass_context
def demo(ctx: click.Context, bootstrap: str | None, seed: int, scale: float, data_dir: Path | None) -> None:
    """Process a simulated month of mail, whose last day is under attack, with Kafka and the engine.

    Starts its own broker unless --bootstrap is given. On that cluster it uses topics with the prefix "demo-<time>-".
    """
    prefix = f"demo-{int(time.time())}-"
    settings = settings_from(
        ctx,
        kafka_bootstrap=bootstrap,
        topics_prefix=prefix,
        topics_retention_ms=UNLIMITED,
        worker_app_id=prefix + "app",
    )
    console = Console()
    from engine.broker import EmbeddedBroker
    from engine.demo.simulate import simulate
    from engine.pipeline.precompile import precompile

    with tempfile.TemporaryDirectory(prefix="tidegate-demo-") as scratch:
        folder = data_dir or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        console.print("Compiling the kernels (half a minute at first, cached afterwards) ...")
        console.print(f"  ready in {precompile():.1f} s")
        own = None if settings.kafka.bootstrap else EmbeddedBroker(folder / "broker", heap_mb=settings.local.heap_mb)
        console.print("Starting Kafka ..." if own else f"Using Kafka at {settings.kafka.bootstrap}")
        with own or nullcontext():
            if own:
                settings = dataclasses.replace(
                    settings, kafka=dataclasses.replace(settings.kafka, bootstrap=own.bootstrap)
                )
            end_ms = int(time.time() * 1000) // DAY_MS * DAY_MS
            events = simulate(seed, end_ms, scale)
            console.print(f"Simulated {len(events.ts_ms):,} connections in 31 days (seed {seed})")
            play(settings, events, console, folder)


def play(settings: Settings, events: SimulatedEvents, console: Console, folder: Path) -> None:
    """Replay the month on a cluster and print a summary."""
    from engine.demo.report import outcomes, throttles_by_origin
    from engine.demo.runner import running_worker
    from engine.demo.screen import Screen, summary
    from engine.kafka.topic_admin import check_topics

    check_topics(settings, create=True)
    with running_worker(settings, folder) as process, Screen(console) as screen:
        decisions, rate = asyncio.run(_play(settings, events, process, screen))
    summary(console, outcomes(events, decisions), throttles_by_origin(events, decisions))
    console.print(f"History: {rate:,.0f} events per second, with producer, broker and worker on this machine.")


async def _play(
    settings: Settings, events: SimulatedEvents, process: DemoWorker, screen: Screen
) -> tuple[list[Decision], float]:
    from engine.demo.runner import Feed
    from engine.kafka.event_producer import EventProducer

    topics = settings.topics
    producer = EventProducer(
        topics.prefix + CONNECTIONS.name, topics.partitions, "lz4", settings.kafka.client_options()
    )
    feed = Feed(producer, events)
    decisions: list[Decision] = []
    await producer.start()
    following = asyncio.create_task(_follow(settings, decisions, screen))
    showing = asyncio.create_task(_show(process, feed, screen))
    try:
        while not process.status.get("partitions"):  # noqa: ASYNC110 (another process: there is no event to wait for)
            await asyncio.sleep(REFRESH_S)
        started_s = time.monotonic()
        await feed.history(int(events.ts_ms[-1]) // DAY_MS * DAY_MS)
        await _caught_up(process, feed, following)
        rate = feed.sent / (time.monotonic() - started_s)
        screen.live = True
        await feed.live(DAY_MS / 1000 / LAST_DAY_S)
        await _caught_up(process, feed, following)
        await asyncio.sleep(1.0)
    finally:
        for task in (following, showing):
            task.cancel()
        await asyncio.gather(following, showing, return_exceptions=True)
        await producer.stop()
    return decisions, rate


async def _caught_up(process: DemoWorker, feed: Feed, following: asyncio.Task[None]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while process.status.get("events", 0) < feed.sent and time.monotonic() < deadline_s:
        if following.done():
            following.result()
        await asyncio.sleep(REFRESH_S)


async def _follow(settings: Settings, decisions: list[Decision], screen: Screen) -> None:
    async for value in read_decisions(settings, follow=True):
        decision = decode_decision(value)
        decisions.append(decision)
        screen.add(decision)


async def _show(process: DemoWorker, feed: Feed, screen: Screen) -> None:
    last: dict[str, Any] = {}
    while True:
        status = process.status
        if status and status.get("time_ms") != last.get("time_ms"):
            elapsed_s = (status["time_ms"] - last.get("time_ms", status["time_ms"] - 1000)) / 1000
            rate = max(0.0, status["events"] - last.get("events", 0)) / max(elapsed_s, 1e-3)
            counts = {name: float(status[name]) for name in ("events", "keys", "throttles")}
            counts |= {"rate": rate, "lag": max(0.0, feed.sent - counts["events"])}
            screen.progress("attack day" if screen.live else "history   ", feed.clock_ms, counts)
            last = status
        await asyncio.sleep(REFRESH_S)
