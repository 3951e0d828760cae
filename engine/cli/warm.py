"""`tidegate warm`: a new site starts with the history that its old logs hold."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import click

from engine.cli.files import event_files
from engine.cli.import_logs import opened, tell, year_option
from engine.cli.options import bootstrap_option, settings_from
from engine.cli.replay import report_poison
from engine.cli.worker import NO_CLUSTER
from engine.imports.ndjson import text_blocks
from engine.imports.readers import READERS
from topics.errors import OperatorError
from topics.times import moment, moment_ms

if TYPE_CHECKING:
    from engine.pipeline.replay import Replay
    from engine.worker.seed_state import Ground
    from topics.columns.scan import EventColumns
    from topics.decisions import Decision

EVENTS = "events"
KINDS = click.Choice([EVENTS, *READERS])
KIND = "What the logs are; events is NDJSON, plain or gzip."
ZONE = "Zone of stamps without one: Europe/Berlin, UTC or -07:00."
REPLACE = "Forget the state that the cluster has; no worker may be at work."


@click.command(
    epilog="Example:  tidegate warm mail.log.1.gz mail.log --format postfix --year 2026 --time-zone Europe/Berlin"
)
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--format", "kind", type=KINDS, default=EVENTS, show_default=True, help=KIND)
@click.option("--time-zone", metavar="ZONE", help=ZONE)
@year_option
@click.option("--until", metavar="TIME", help="Leave out what is later, UTC: what the edges have reported themselves.")
@click.option("--replace", is_flag=True, help=REPLACE)
@bootstrap_option
@click.pass_context
def warm(ctx: click.Context, /, logs: tuple[str, ...], kind: str, **options: Any) -> None:
    """Replay old logs and write the state that they lead to where the next worker finds it.

    The topics must exist (`tidegate topics --create`), and events that are on the connections topic must not be in the logs.
    A cluster that has state already is left alone unless --replace is given.

    Exit status: 0, or 1 if lines were left out or a log was damaged (it says which), or 2 if nothing was written.
    """
    settings = settings_from(ctx, kafka_bootstrap=options["bootstrap"])
    if not settings.kafka.bootstrap:
        raise OperatorError(NO_CLUSTER)
    from engine.pipeline import build
    from engine.pipeline.precompile import warm as compile_kernels
    from engine.pipeline.replay import EventReader
    from engine.service.worker import check_topics
    from engine.worker.seed_state import clear, seed, survey

    reader = EventReader() if options["until"] is None else EventReader(moment_ms(options["until"]))
    build.engines_own(settings, "warm")
    check_topics(settings, create=False)
    ground = asyncio.run(survey(settings))
    if ground.state_records and not options["replace"]:
        raise OperatorError(
            "the cluster has state already: stop the workers and say --replace to forget it, or choose another topics.prefix"
        )
    compile_kernels()
    past = Past(build.replay(settings, reader))
    damaged = kind != EVENTS and read_logs(past, logs, kind, options)
    if kind == EVENTS:
        read_events(past, logs)
    past.refuse_overlap(ground)
    if ground.state_records:
        asyncio.run(clear(settings))
    asyncio.run(seed(settings, past.engine.partitions, past.in_force(), ground))
    click.echo(past.summary(), err=True)
    ctx.exit(1 if damaged or reader.tally.poison else 0)


class Past:
    """What the logs led to: the engine with its state, and the last throttle of each network."""

    def __init__(self, engine: Replay) -> None:
        self.engine = engine
        self.last_ms = -1
        self._told: dict[str, Decision] = {}

    def take(self, events: EventColumns) -> None:
        """Apply a block."""
        self.last_ms = max(self.last_ms, int(events.ts_ms.max(initial=-1)))
        for decision in self.engine.decide(events):
            self._told.pop(decision.network, None)
            if decision.holds:
                self._told[decision.network] = decision

    def in_force(self) -> list[Decision]:
        """Throttles that the next worker goes on with."""
        clocks = [int(partition.state.site["clock_ms"][0]) for partition in self.engine.partitions]
        return [told for told in self._told.values() if told.until > clocks[told.source.partition]]

    def refuse_overlap(self, ground: Ground) -> None:
        """OperatorError if there is nothing, or if some of it may be on the topic as well."""
        if self.last_ms < 0:
            raise OperatorError("no event in these logs: nothing was written")
        if ground.first_ms is not None and ground.first_ms <= self.last_ms:
            raise OperatorError(
                f"the logs go on to {moment(self.last_ms)}, and the connections topic has events from "
                f"{moment(ground.first_ms)} on, which would count twice: say --until {ground.first_ms - 1}"
            )

    def summary(self) -> str:
        """What was written."""
        partitions, events = self.engine.partitions, self.engine.tally.events
        keys = sum(partition.keys for partition in partitions)
        left = sum(int(partition.state.site["untracked"][0]) for partition in partitions)
        full = f"; {left:,} events of senders beyond worker.rows_per_partition left out" if left else ""
        return (
            f"{events:,} events up to {moment(self.last_ms)}: {keys:,} senders in {len(partitions)} partitions, "
            f"{len(self.in_force()):,} throttles in force; the next worker starts with them{full}"
        )


def read_events(past: Past, logs: tuple[str, ...]) -> None:
    """Replay NDJSON files."""
    for source in event_files(logs, "replay"):
        for events in past.engine.reader.blocks(source):
            past.take(events)
    report_poison(past.engine.tally)


def read_logs(past: Past, logs: tuple[str, ...], kind: str, options: dict[str, Any]) -> bool:
    """Replay logs of mail servers; whether one of them was damaged."""
    started_s = time.monotonic()
    with opened(logs, options) as reading:
        for text in text_blocks(READERS[kind](reading), reading.tally):
            for events in past.engine.reader.read(text):
                past.take(events)
    tell(reading, time.monotonic() - started_s)
    return bool(reading.tally.damaged)
