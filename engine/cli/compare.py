"""`tidegate compare`: two configurations on the same recorded events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from engine.cli.columns import aligned
from engine.cli.files import event_files
from engine.cli.replay import report_poison
from engine.config import load_settings

if TYPE_CHECKING:
    from engine.analysis.comparison import Comparison
    from engine.analysis.ledger import Counts

EVENTS = click.Path(exists=True, dir_okay=False, allow_dash=True)
CONFIGURATION = click.Path(path_type=Path)
CLASS_HEADS = ("sender", "accepted", "delayed: old", "new", "sender-days: old", "new", "refused", "held: old", "new")
MOVER_HEADS = ("network", "sender", "delayed: old", "new", "held: old", "new")
DELAY = "From a decision until the edge has it."
BUDGET = "Exit with status 1 if the new one delays mail on more than so many of a hundred sender-days."


@click.command(epilog="Example:  tidegate compare --old a.toml --new b.toml events.ndjson.gz --budget 0.5")
@click.argument("events", nargs=-1, required=True, type=EVENTS)
@click.option("--old", required=True, type=CONFIGURATION, metavar="A.toml", help="What is in force now.")
@click.option("--new", required=True, type=CONFIGURATION, metavar="B.toml", help="What may replace it.")
@click.option("--budget", type=click.FloatRange(0, 100), metavar="PERCENT", help=BUDGET)
@click.option("--delay", type=click.IntRange(0), default=0, show_default=True, metavar="MS", help=DELAY)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
@click.pass_context
def compare(ctx: click.Context, /, events: tuple[str, ...], **options: Any) -> None:
    """Replay events (NDJSON, plain or gzip) under two configurations, and say what the new one gains, loses and costs.

    An edge with token buckets is simulated for each: accepted mail that it defers counts as delayed, refused mail as held.
    A sender-day is a day on which a sender had mail accepted; it counts as delayed if some of that mail was. The two files
    alone count: nothing is taken from the environment.

    Exit status: 0, or 1 if the new configuration is over the --budget, or 2 for misuse.
    """
    pair = [load_settings(options[name], {}, {}) for name in ("old", "new")]
    from engine.analysis import comparison
    from engine.analysis.contenders import Contender, contest
    from engine.warm import warm

    warm()
    old, new = (Contender(settings, options["delay"]) for settings in pair)
    tally = contest((old, new), event_files(events, "compare"))
    report_poison(tally)
    answer = comparison.compare(old.ledger, new.ledger)
    share, budget = answer.everybody[1].days_share, options["budget"]
    over = budget is not None and 100 * share > budget
    if options["as_json"]:
        verdict = {"budget_percent": budget, "over_budget": over}
        click.echo(orjson.dumps({"events": tally.events, **answer.as_json(), **verdict}))
    else:
        show(answer)
    if budget is not None:
        said = "over" if over else "within"
        click.echo(f"mail delayed on {share:.3%} of sender-days: {said} the budget of {budget:g} %", err=True)
    ctx.exit(1 if over else 0)


def show(answer: Comparison) -> None:
    """The tables."""
    old, new = answer.decisions
    click.echo(
        f"decisions: {old:,} -> {new:,}; throttled spells: {answer.gained:,} gained, {answer.lost:,} lost, "
        f"{answer.kept:,} kept\n"
    )
    for line in aligned(
        CLASS_HEADS, [_class_row(*item) for item in {**answer.by_class, "all": answer.everybody}.items()]
    ):
        click.echo(line)
    if answer.movers:
        click.echo("\nbiggest movers, messages old -> new:")
        for line in aligned(MOVER_HEADS, answer.movers):
            click.echo(line)


def _class_row(name: str, pair: tuple[Counts, Counts]) -> tuple[object, ...]:
    before, after = pair
    shares = (f"{counts.days_share:.2%}" for counts in pair)
    return (name, after.accepted, before.delayed, after.delayed, *shares, after.refused, before.held, after.held)
