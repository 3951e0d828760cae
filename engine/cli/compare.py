"""`tidegate compare`: two configurations on the same recorded events, or what was in shadow beside what was live."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from engine.cli.files import event_files
from engine.cli.options import bootstrap_option
from engine.cli.replay import report_poison
from engine.cli.table import aligned
from engine.config.load import load_settings
from topics.errors import OperatorError

if TYPE_CHECKING:
    from engine.analysis.collateral import Counts
    from engine.analysis.comparison import Comparison

EVENTS = click.Path(exists=True, dir_okay=False, allow_dash=True)
CONFIGURATION = click.Path(path_type=Path)
CONFIGURATIONS, SHADOW = ("old", "new"), ("live", "with shadow")
DELAY = "From a decision until the edge has it."
BUDGET = "Exit with status 1 if the new one delays mail on more than so many of a hundred sender-days."
IN_SHADOW = "Compare what was decided live with that and what was decided in shadow."
DECISIONS = "With --shadow and EVENTS: the decisions that were published, NDJSON."


@click.command(epilog="Example:  tidegate compare --old a.toml --new b.toml events.ndjson.gz --budget 0.5")
@click.argument("events", nargs=-1, type=EVENTS)
@click.option("--old", type=CONFIGURATION, metavar="A.toml", help="What is in force now.")
@click.option("--new", type=CONFIGURATION, metavar="B.toml", help="What may replace it.")
@click.option("--shadow", is_flag=True, help=IN_SHADOW)
@click.option("--decisions", metavar="FILE", help=DECISIONS)
@bootstrap_option
@click.option("--budget", type=click.FloatRange(0, 100), metavar="PERCENT", help=BUDGET)
@click.option("--delay", type=click.IntRange(0), default=0, show_default=True, metavar="MS", help=DELAY)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
@click.pass_context
def compare(ctx: click.Context, /, events: tuple[str, ...], **options: Any) -> None:
    """Replay events (NDJSON, plain or gzip) under two configurations, and say what the new one gains, loses and costs.

    An edge with token buckets is simulated for each: accepted mail that it defers counts as delayed, refused mail as held.
    A sender-day is a day on which a sender had mail accepted; it counts as delayed if some of that mail was. The two files
    alone count: nothing is taken from the environment.

    With --shadow nothing is decided anew: recorded decisions (`tidegate decisions --json`) meet the recorded events, once those
    that were live alone, once those in shadow too. Without EVENTS both are read from a cluster, whose topic keeps the last
    decision on each network.

    Exit status: 0, or 1 if the new configuration is over the --budget, or 2 for misuse.
    """
    refuse_mixtures(events, options)
    if options["shadow"]:
        from engine.cli.shadowing import compared

        (answer, count), names = compared(ctx, events, options), SHADOW
    else:
        (answer, count), names = of_configurations(events, options), CONFIGURATIONS
    share, budget = answer.everybody[1].days_share, options["budget"]
    over = budget is not None and 100 * share > budget
    if options["as_json"]:
        verdict = {"budget_percent": budget, "over_budget": over}
        click.echo(orjson.dumps({"events": count, "compared": names, **answer.as_json(), **verdict}))
    else:
        show(answer, names)
    if budget is not None:
        said = "over" if over else "within"
        click.echo(f"mail delayed on {share:.3%} of sender-days: {said} the budget of {budget:g} %", err=True)
    ctx.exit(1 if over else 0)


def refuse_mixtures(events: tuple[str, ...], options: dict[str, Any]) -> None:
    """OperatorError unless what is given is one of the two questions."""
    files = options["old"] is not None, options["new"] is not None
    if options["shadow"]:
        if any(files):
            raise OperatorError("--shadow compares what was published: leave out --old and --new")
        if bool(events) != (options["decisions"] is not None):
            raise OperatorError("give --decisions FILE and files of events, or neither to read a cluster")
    elif not (all(files) and events) or options["decisions"] is not None:
        raise OperatorError("compare what? Give --old A.toml --new B.toml and files of events, or --shadow")


def of_configurations(events: tuple[str, ...], options: dict[str, Any]) -> tuple[Comparison, int]:
    """The answer of two configurations' replays, and how many events they saw."""
    pair = [load_settings(options[name], {}, {}) for name in ("old", "new")]
    from engine.analysis import comparison
    from engine.analysis.backtest import Contender, contest
    from engine.pipeline.precompile import warm

    warm()
    old, new = (Contender(settings, options["delay"]) for settings in pair)
    tally = contest((old, new), event_files(events, "compare"))
    report_poison(tally)
    return comparison.compare(old.ledger, new.ledger), tally.events


def show(answer: Comparison, names: tuple[str, str] = CONFIGURATIONS) -> None:
    """The tables. ``names``: of the two that are compared."""
    first, second = names
    delays = (f"delayed: {first}", second, f"sender-days: {first}", second)
    classes = ("sender", "accepted", *delays, "refused", f"held: {first}", second)
    old, new = answer.decisions
    click.echo(
        f"decisions: {old:,} -> {new:,}; throttled spells: {answer.gained:,} gained, {answer.lost:,} lost, "
        f"{answer.kept:,} kept\n"
    )
    for line in aligned(classes, [_class_row(*item) for item in {**answer.by_class, "all": answer.everybody}.items()]):
        click.echo(line)
    if answer.movers:
        click.echo(f"\nbiggest movers, messages {first} -> {second}:")
        heads = ("network", "sender", f"delayed: {first}", second, f"held: {first}", second)
        for line in aligned(heads, answer.movers):
            click.echo(line)


def _class_row(name: str, pair: tuple[Counts, Counts]) -> tuple[object, ...]:
    before, after = pair
    shares = (f"{counts.days_share:.2%}" for counts in pair)
    return (name, after.accepted, before.delayed, after.delayed, *shares, after.refused, before.held, after.held)
