"""`tidegate replay`: the same engine over a file, no Kafka."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from engine.cli.files import event_files, numbered_lines, output_file
from engine.cli.options import settings_from
from engine.pipeline.replay import Tally
from topics.errors import OperatorError
from topics.overrides import BadExemption, Said, decode_line

if TYPE_CHECKING:
    from engine.state.partition import Partition


@click.command(epilog="Example:  tidegate replay events.ndjson.gz --decisions decisions.ndjson")
@click.argument("events", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--decisions", required=True, metavar="FILE", help="Where decisions go, NDJSON; - for standard output.")
@click.option(
    "--partitions",
    type=click.IntRange(1, 1024),
    help="Deal the events to so many partitions.  [default: topics.partitions, as a worker would]",
)
@click.option("--sensitivity", help="Override model.sensitivity.")
@click.option(
    "--overrides", metavar="FILE", help="What operators said meanwhile: the lines of `tidegate audit --json`."
)
@click.pass_context
def replay(
    ctx: click.Context, /, events: tuple[str, ...], decisions: str, overrides: str | None, **options: Any
) -> None:
    """Run the engine over files of events (NDJSON, plain or gzip, - for standard input), without Kafka.

    The decisions are those that a worker would publish for the same events, byte for byte but for their source offsets.
    The exit status is 1 if some lines were no events: they are counted, and left out.
    """
    settings = settings_from(ctx, topics_partitions=options["partitions"], model_sensitivity=options["sensitivity"])
    from engine.pipeline import build
    from engine.pipeline.precompile import warm
    from topics.decisions import encode_decision

    if overrides is not None:
        build.engines_own(settings, "replay --overrides")
    said = [] if overrides is None else overrides_from(overrides)
    warm()
    engine = build.replay(settings, said=said)
    started_s = time.perf_counter()
    with output_file(decisions) as out:
        for source in event_files(events, "replay"):
            for found in engine.run(source):
                out.writelines(encode_decision(decision) + b"\n" for decision in found)
    report(engine.tally, time.perf_counter() - started_s)
    report_guard(engine.partitions)
    ctx.exit(1 if engine.tally.poison else 0)


def overrides_from(name: str) -> list[Said]:
    """What a file of lines says, in its order. OperatorError for a line that can't be read."""
    found = []
    for number, line in numbered_lines(name, "overrides"):
        try:
            said = decode_line(line)
        except BadExemption as error:
            raise OperatorError(f"{name}, line {number}: {error}: give lines of `tidegate audit --json`") from error
        if said is not None:
            found.append(said)
    return found


def report(tally: Tally, seconds: float) -> None:
    """Say on standard error what was read and decided."""
    rate = tally.events / max(seconds, 1e-9)
    shadows = f"{tally.shadows:,} in shadow, " if tally.shadows else ""
    click.echo(
        f"{tally.events:,} events in {seconds:.2f} s ({rate:,.0f}/s): {tally.throttles:,} throttles, "
        f"{shadows}{tally.releases:,} releases",
        err=True,
    )
    report_poison(tally)
    sys.stderr.flush()


def report_guard(partitions: Sequence[Partition]) -> None:
    """Say on standard error how often the guard has tripped, if it has."""
    trips, open_now = sum(one.trips for one in partitions), sum(one.tripped_ms is not None for one in partitions)
    if trips:
        click.echo(
            f"the guard tripped {trips:,} times, as throttles hit known senders as a rule: "
            f"{sum(one.withdrawn for one in partitions):,} decisions taken back, {open_now} partitions still watch only",
            err=True,
        )


def report_poison(tally: Tally) -> None:
    """Say on standard error which lines were no events, if any."""
    if tally.poison:
        click.echo(f"{tally.poison:,} lines are no events and were left out:", err=True)
        for line, reason in tally.examples:
            click.echo(f"  line {line:,}: {reason}", err=True)
