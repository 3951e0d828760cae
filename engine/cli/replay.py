"""`tidegate replay`: run the engine over files of events, without Kafka."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from engine.cli.files import event_files, numbered_lines, output_file
from engine.cli.options import settings_from
from engine.cli.sources import EVENTS, report_poison
from engine.pipeline.replay import ReplayCounts
from topics.errors import OperatorError
from topics.overrides import BadOverride, OverrideRecord, decode_line

if TYPE_CHECKING:
    from engine.state.partition import Partition


@click.command(epilog="Example:  tidegate replay events.ndjson.gz --decisions decisions.ndjson")
@click.argument("events", nargs=-1, required=True, type=EVENTS)
@click.option(
    "--decisions", required=True, metavar="FILE", help="Output file for decisions, NDJSON; - for standard output."
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 1024),
    help="Number of partitions.  [default: topics.partitions]",
)
@click.option("--sensitivity", metavar="NAME|PERCENT", help="Replaces model.sensitivity.")
@click.option("--overrides", metavar="FILE", help="Operator overrides to apply: output of `tidegate audit --json`.")
@click.pass_context
def replay(
    ctx: click.Context,
    /,
    events: tuple[str, ...],
    decisions: str,
    partitions: int | None,
    sensitivity: str | None,
    overrides: str | None,
) -> None:
    """Run the engine over files of events (NDJSON, plain or compressed, - for standard input), without Kafka.

    The decisions are those that a worker would publish for the same events, byte for byte except for source offsets.
    Lines that are not events are counted and skipped; the exit status is 1 then.
    """
    settings = settings_from(ctx, topics_partitions=partitions, model_sensitivity=sensitivity)
    from engine.pipeline import build
    from engine.pipeline.precompile import precompile
    from topics.decisions import encode_decision

    if overrides is not None:
        build.require_peak_memory(settings, "replay --overrides")
    records = [] if overrides is None else overrides_from(overrides)
    precompile()
    engine = build.replay(settings, overrides=records)
    started_s = time.perf_counter()
    with output_file(decisions) as out:
        for source in event_files(events, "replay"):
            for made in engine.run(source):
                out.writelines(encode_decision(decision) + b"\n" for decision in made)
    report(engine.counts, time.perf_counter() - started_s)
    report_breaker(engine.partitions)
    ctx.exit(1 if engine.counts.poison else 0)


def overrides_from(name: str) -> list[OverrideRecord]:
    """Return the overrides in a file, in its order. Raise OperatorError for a line that can't be read."""
    records = []
    for number, line in numbered_lines(name, "overrides"):
        try:
            record = decode_line(line)
        except BadOverride as error:
            raise OperatorError(
                f"{name}, line {number}: {error}: give the output of `tidegate audit --json`"
            ) from error
        if record is not None:
            records.append(record)
    return records


def report(counts: ReplayCounts, seconds: float) -> None:
    """Report on standard error the numbers of events and decisions."""
    rate = counts.events / max(seconds, 1e-9)
    shadows = f"{counts.shadow_throttles:,} in shadow, " if counts.shadow_throttles else ""
    click.echo(
        f"{counts.events:,} events in {seconds:.2f} s ({rate:,.0f}/s): {counts.throttles:,} throttles, "
        f"{shadows}{counts.releases:,} releases",
        err=True,
    )
    report_poison(counts)
    sys.stderr.flush()


def report_breaker(partitions: Sequence[Partition]) -> None:
    """Report on standard error how often circuit breakers tripped, if any did."""
    trips = sum(partition.breaker_trips for partition in partitions)
    if trips:
        withdrawn = sum(partition.breaker_withdrawn for partition in partitions)
        still_open = sum(partition.breaker_tripped_ms is not None for partition in partitions)
        click.echo(
            f"the circuit breaker tripped {trips:,} times, since throttles hit unusually many known senders: "
            f"{withdrawn:,} decisions withdrawn, still open in {still_open} partitions",
            err=True,
        )
