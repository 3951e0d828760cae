"""`tidegate compare`: two configurations on the same events, or recorded live decisions with and without those in shadow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from engine.cli.files import event_files, progress
from engine.cli.options import bootstrap_option, settings_from
from engine.cli.sources import EVENTS, decisions_of, decisions_of_topic, report_poison
from engine.cli.table import aligned
from engine.config.load import Settings, load_settings
from topics.contracts import CONNECTIONS
from topics.decisions import SHADOW, Decision
from topics.errors import OperatorError

if TYPE_CHECKING:
    from engine.analysis.backtest import PublishedCandidate
    from engine.analysis.collateral import MailCounts
    from engine.analysis.comparison import Comparison

CONFIGURATION = click.Path(path_type=Path)
CONFIGURATIONS, WITH_AND_WITHOUT_SHADOW = ("old", "new"), ("live", "with shadow")
DELAY = "Time from a decision's issue until edges apply it."
BUDGET = "Exit with status 1 if the new configuration delays mail on more than this percentage of sender-days."
IN_SHADOW = "Compare recorded live decisions with live and shadow decisions together."
DECISIONS = "With --shadow and EVENTS: published decisions, NDJSON."
NO_INPUT = "no input: give --decisions FILE and event files, or --bootstrap HOST:PORT"


@click.command(epilog="Example:  tidegate compare --old a.toml --new b.toml events.ndjson.gz --budget 0.5")
@click.argument("events", nargs=-1, type=EVENTS)
@click.option("--old", type=CONFIGURATION, metavar="A.toml", help="Current configuration.")
@click.option("--new", type=CONFIGURATION, metavar="B.toml", help="Candidate configuration.")
@click.option("--shadow", is_flag=True, help=IN_SHADOW)
@click.option("--decisions", metavar="FILE", help=DECISIONS)
@bootstrap_option
@click.option("--budget", type=click.FloatRange(0, 100), metavar="PERCENT", help=BUDGET)
@click.option("--delay", type=click.IntRange(0), default=0, show_default=True, metavar="MS", help=DELAY)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    events: tuple[str, ...],
    old: Path | None,
    new: Path | None,
    shadow: bool,
    decisions: str | None,
    bootstrap: str | None,
    budget: float | None,
    delay: int,
    as_json: bool,
) -> None:
    """Replay events (NDJSON, plain or compressed) under two configurations and show the gains, losses and costs of the new one.

    Each configuration gets a simulated edge with token buckets. Accepted mail that it defers counts as delayed, refused mail
    as caught. A sender-day is a day on which a sender had mail accepted; it counts as delayed if some of that mail was. Only
    the two files are read: environment variables don't apply.

    With --shadow nothing is decided again: recorded decisions (`tidegate decisions --json`) are applied to the recorded
    events, first the live ones alone, then those in shadow as well. Without EVENTS both are read from a cluster, whose topic
    keeps the last decision on each network.

    Exit status: 0, or 1 if the new configuration exceeds the --budget, or 2 for misuse.
    """
    if shadow:
        _refuse_configurations(events, old or new, decisions)
        settings = settings_from(ctx, kafka_bootstrap=bootstrap)
        (comparison, count), names = compare_shadow(settings, events, decisions, delay), WITH_AND_WITHOUT_SHADOW
    elif old is None or new is None or not events or decisions is not None:
        raise OperatorError("no input: give --old A.toml --new B.toml and event files, or --shadow")
    else:
        (comparison, count), names = compare_configurations((old, new), events, delay), CONFIGURATIONS
    share = comparison.all_senders[1].days_share
    over = budget is not None and 100 * share > budget
    if as_json:
        verdict = {"budget_percent": budget, "over_budget": over}
        click.echo(orjson.dumps({"events": count, "compared": names, **comparison.as_json(), **verdict}))
    else:
        show(comparison, names)
    if budget is not None:
        result = "over" if over else "within"
        click.echo(f"mail delayed on {share:.3%} of sender-days: {result} the budget of {budget:g} %", err=True)
    ctx.exit(1 if over else 0)


def _refuse_configurations(events: tuple[str, ...], configuration: Path | None, decisions: str | None) -> None:
    if configuration is not None:
        raise OperatorError("--shadow compares published decisions: leave out --old and --new")
    if bool(events) != (decisions is not None):
        raise OperatorError("give --decisions FILE and event files, or neither to read a cluster")


def compare_configurations(files: tuple[Path, Path], events: tuple[str, ...], delay_ms: int) -> tuple[Comparison, int]:
    """Replay the events under both configurations. Return the comparison and the number of events."""
    first, second = (load_settings(file, {}, {}) for file in files)
    from engine.analysis import comparison
    from engine.analysis.backtest import ConfigurationCandidate, backtest
    from engine.pipeline.precompile import precompile

    precompile()
    old, new = ConfigurationCandidate(first, delay_ms), ConfigurationCandidate(second, delay_ms)
    counts = backtest((old, new), event_files(events, "compare"))
    report_poison(counts)
    return comparison.compare(old.collateral, new.collateral), counts.events


def compare_shadow(
    settings: Settings, events: tuple[str, ...], decisions: str | None, delay_ms: int
) -> tuple[Comparison, int]:
    """Apply recorded decisions to the events of files or of the cluster. Return the comparison and the number of events."""
    if decisions is None and not settings.kafka.bootstrap:
        raise OperatorError(NO_INPUT)
    from engine.analysis import comparison
    from engine.analysis.backtest import backtest
    from engine.kafka.topic_admin import check_topics
    from engine.pipeline.precompile import precompile

    precompile()
    if decisions is not None:
        live, both = _candidates(decisions_of(decisions), delay_ms)
        counts = backtest((live, both), event_files(events, "compare"))
        report_poison(counts)
        count = counts.events
    else:
        check_topics(settings, create=False)
        live, both = _candidates(asyncio.run(decisions_of_topic(settings)), delay_ms)
        count = asyncio.run(_apply_topic(settings, (live, both)))
    return comparison.compare(live.collateral, both.collateral), count


def _candidates(decisions: Sequence[Decision], delay_ms: int) -> tuple[PublishedCandidate, PublishedCandidate]:
    """Return the record without and with decisions in shadow. Raise OperatorError if none is in shadow."""
    from engine.analysis.backtest import LIVE, WITH_SHADOW, PublishedCandidate, newer

    applied = list(newer(decisions))
    if not any(decision.verdict == SHADOW for decision in applied):
        raise OperatorError(f"none of {len(applied):,} decisions is in shadow: nothing to compare")
    return PublishedCandidate(applied, LIVE, delay_ms), PublishedCandidate(applied, WITH_SHADOW, delay_ms)


async def _apply_topic(settings: Settings, candidates: Sequence[PublishedCandidate]) -> int:
    """Apply all events on the topic, partition by partition, since a sender stays in its partition. Return their number."""
    from engine.analysis.senders import SenderClasses
    from engine.worker.cluster_reader import connection_events

    classes, topic, count = SenderClasses(), settings.topics.prefix + CONNECTIONS.name, 0
    with progress(100 * settings.topics.partitions, "topic") as bar:
        for number in range(settings.topics.partitions):
            for candidate in candidates:
                candidate.begin_partition(number, topic)
            async for events, share in connection_events(settings, number):
                senders = classes.classify(events)
                for candidate in candidates:
                    candidate.apply(events, senders)
                count += len(events.key)
                bar.update(bar.task_ids[0], completed=100 * (number + share))
    return count


def show(comparison: Comparison, names: tuple[str, str] = CONFIGURATIONS) -> None:
    """Print the tables. `names` are those of the two sides."""
    first, second = names
    delays = (f"delayed: {first}", second, f"sender-days: {first}", second)
    classes = ("sender", "accepted", *delays, "refused", f"caught: {first}", second)
    old, new = comparison.decisions
    click.echo(
        f"decisions: {old:,} -> {new:,}; throttle periods: {comparison.gained:,} gained, {comparison.lost:,} lost, "
        f"{comparison.kept:,} kept\n"
    )
    rows = {**comparison.by_class, "all": comparison.all_senders}
    for line in aligned(classes, [_class_row(name, pair) for name, pair in rows.items()]):
        click.echo(line)
    if comparison.movers:
        click.echo(f"\nlargest differences, messages {first} -> {second}:")
        heads = ("network", "sender", f"delayed: {first}", second, f"caught: {first}", second)
        for line in aligned(heads, comparison.movers):
            click.echo(line)


def _class_row(name: str, pair: tuple[MailCounts, MailCounts]) -> tuple[object, ...]:
    before, after = pair
    shares = (f"{counts.days_share:.2%}" for counts in pair)
    return (name, after.accepted, before.delayed, after.delayed, *shares, after.refused, before.caught, after.caught)
