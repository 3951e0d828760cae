"""`tidegate warm`: initialise a new site's state from its old logs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from engine.cli.files import event_files
from engine.cli.mail_logs import open_logs, report_logs, time_zone_option, year_option
from engine.cli.options import bootstrap_option, require_cluster, settings_from
from engine.cli.sources import report_poison
from engine.imports.readers import READERS
from engine.imports.streams import ndjson_blocks
from topics.errors import OperatorError
from topics.times import parse_time_ms, time_text

if TYPE_CHECKING:
    from engine.pipeline.replay import Replay
    from engine.worker.seed_state import ClusterContents
    from topics.columns.scan import EventColumns
    from topics.decisions import Decision

EVENTS = "events"
KINDS = click.Choice([EVENTS, *READERS])
KIND = "Kind of the logs; events is NDJSON, plain or compressed."
UNTIL = "Skip later events, UTC: those that the edges have published themselves."
REPLACE = "Delete the cluster's existing state; no worker may be running."


@click.command(
    epilog="Example:  tidegate warm mail.log.1.gz mail.log --format postfix --year 2026 --time-zone Europe/Berlin"
)
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--format", "kind", type=KINDS, default=EVENTS, show_default=True, help=KIND)
@time_zone_option
@year_option
@click.option("--until", metavar="TIME", help=UNTIL)
@click.option("--replace", is_flag=True, help=REPLACE)
@bootstrap_option
@click.pass_context
def warm(
    ctx: click.Context,
    /,
    logs: tuple[str, ...],
    kind: str,
    time_zone: str | None,
    year: str | None,
    until: str | None,
    replace: bool,
    bootstrap: str | None,
) -> None:
    """Replay old logs and write the resulting state to the cluster, for the next worker.

    The topics must exist (`tidegate topics --create`). The logs must not contain events that are on the connections topic. A
    cluster with existing state is left unchanged unless --replace is given.

    Exit status: 0, or 1 if lines were skipped or a log was damaged (reported), or 2 if nothing was written.
    """
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    require_cluster(settings)
    from engine.kafka.topic_admin import check_topics
    from engine.pipeline import build
    from engine.pipeline.precompile import precompile
    from engine.pipeline.replay import EventReader
    from engine.worker.seed_state import clear, seed, survey

    reader = EventReader() if until is None else EventReader(parse_time_ms(until))
    build.require_peak_memory(settings, "warm")
    check_topics(settings, create=False)
    ground = asyncio.run(survey(settings))
    if ground.state_records and not replace:
        raise OperatorError(
            "the cluster has state: stop the workers and pass --replace to delete it, or choose another topics.prefix"
        )
    precompile()
    history = LogHistory(build.replay(settings, reader))
    damaged = kind != EVENTS and read_logs(history, logs, kind, year, time_zone)
    if kind == EVENTS:
        read_events(history, logs)
    history.refuse_overlap(ground)
    if ground.state_records:
        asyncio.run(clear(settings))
    asyncio.run(seed(settings, history.engine.partitions, history.active(), ground))
    click.echo(history.summary(), err=True)
    ctx.exit(1 if damaged or reader.counts.poison else 0)


class LogHistory:
    """The result of replayed logs: the engine with its state, and each network's last decision if it is active."""

    def __init__(self, engine: Replay) -> None:
        self.engine = engine
        self.last_ms = -1
        self._last: dict[str, Decision] = {}

    def apply(self, events: EventColumns) -> None:
        """Apply a block of events."""
        self.last_ms = max(self.last_ms, int(events.ts_ms.max(initial=-1)))
        for decision in self.engine.decide(events):
            self._last.pop(decision.network, None)
            if decision.is_throttle:
                self._last[decision.network] = decision

    def active(self) -> list[Decision]:
        """Return the throttles that are active at the end of the logs."""
        clocks = [int(partition.state.site["clock_ms"][0]) for partition in self.engine.partitions]
        return [decision for decision in self._last.values() if decision.until > clocks[decision.source.partition]]

    def refuse_overlap(self, ground: ClusterContents) -> None:
        """Raise OperatorError if there is no event, or if events of the logs may also be on the topic."""
        if self.last_ms < 0:
            raise OperatorError("no event in these logs: nothing was written")
        if ground.first_ms is not None and ground.first_ms <= self.last_ms:
            raise OperatorError(
                f"the logs end at {time_text(self.last_ms)}, and the connections topic has events from "
                f"{time_text(ground.first_ms)} on, which would be counted twice: pass --until {ground.first_ms - 1}"
            )

    def summary(self) -> str:
        """Return a line about the written state."""
        partitions, events = self.engine.partitions, self.engine.counts.events
        keys = sum(partition.keys for partition in partitions)
        untracked = sum(int(partition.state.site["untracked"][0]) for partition in partitions)
        full = f"; {untracked:,} events of senders beyond worker.rows_per_partition are untracked" if untracked else ""
        return (
            f"{events:,} events up to {time_text(self.last_ms)}: {keys:,} senders in {len(partitions)} partitions, "
            f"{len(self.active()):,} active throttles; the next worker starts with them{full}"
        )


def read_events(history: LogHistory, logs: tuple[str, ...]) -> None:
    """Replay NDJSON files."""
    for source in event_files(logs, "replay"):
        for events in history.engine.reader.blocks(source):
            history.apply(events)
    report_poison(history.engine.counts)


def read_logs(history: LogHistory, logs: tuple[str, ...], kind: str, year: str | None, time_zone: str | None) -> bool:
    """Replay logs of mail servers. Return True if one of them was damaged."""
    started_s = time.monotonic()
    with open_logs(logs, year, time_zone) as reading:
        for text in ndjson_blocks(READERS[kind](reading), reading.counts):
            for events in history.engine.reader.read(text):
                history.apply(events)
    report_logs(reading, time.monotonic() - started_s)
    return bool(reading.counts.damaged)
