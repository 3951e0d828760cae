"""`tidegate calibrate`: a threshold for a site, from its own recorded events and a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import orjson

from engine.analysis.calibration import as_lines
from engine.cli.files import event_files
from engine.cli.options import settings_from
from engine.cli.replay import report_poison
from engine.cli.table import aligned

if TYPE_CHECKING:
    from engine.analysis.calibration import Calibration, Trial

HEADS = ("T", "throttled", "sender-days: choosing", "afterwards", "with history", "messages delayed", "held")
HELD_HEADS = ("network", "sender", "delayed", "held")
EVENTS = click.Path(exists=True, dir_okay=False)


@click.command(epilog="Example:  tidegate calibrate events.ndjson.gz --budget 0.5")
@click.argument("events", nargs=-1, required=True, type=EVENTS)
@click.option(
    "--budget", type=click.FloatRange(0, 100, min_open=True), default=0.5, show_default=True, metavar="PERCENT",
    help="On how many of a hundred sender-days mail may be delayed.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.pass_context
def calibrate(ctx: click.Context, events: tuple[str, ...], budget: float, as_json: bool) -> None:
    """Find the most sensitive setting that a site's own mail allows, and say what it would have caught and delayed.

    A sender-day is a day on which a sender had mail accepted; it counts as delayed if some of that mail was. The threshold
    is chosen on the first 70 % of the time and judged on the rest. The files are read twice; their events must be of the
    whole site, in order of time, and of eight days at least.

    Exit status: 0, or 1 if no threshold keeps the budget, or 2 for misuse.
    """
    settings = settings_from(ctx)
    from engine.analysis import calibration
    from engine.analysis.backtest import Contender, contest
    from engine.pipeline import build
    from engine.pipeline.precompile import warm

    build.engines_own(settings, "calibrate")
    warm()

    def run(contenders: list[Contender]) -> None:
        tally = contest(contenders, event_files(events, f"{len(contenders)} thresholds"))
        if len(contenders) == len(calibration.COARSE):
            report_poison(tally)

    answer = calibration.calibrate(settings, budget / 100, run)
    chosen = answer.chosen
    if as_json:
        found = None if chosen is None else chosen.as_json()
        names = ("network", "sender", "delayed", "held")
        held = [dict(zip(names, row, strict=True)) for row in answer.most_held]
        trials = [trial.as_json() for trial in answer.trials]
        click.echo(orjson.dumps({"budget_percent": budget, "chosen": found, "most_held": held, "trials": trials}))
    else:
        show(answer)
    ctx.exit(1 if chosen is None else 0)


def show(answer: Calibration) -> None:
    """The trials, the choice, and what it would have done."""
    for line in aligned(HEADS, [_row(trial) for trial in answer.trials]):
        click.echo(line)
    chosen = answer.chosen
    if chosen is None:
        click.echo(f"\nno T up to {answer.trials[-1].threshold:g} keeps a budget of {answer.budget:.2%}")
        return
    after = chosen.judging
    click.echo(
        f"\nchosen: T = {chosen.threshold:g}. On the days that it was not chosen on, it would have delayed mail on "
        f"{after.sender_days_delayed:,} of {after.sender_days:,} sender-days ({after.days_share:.2%}): {after.delayed:,} of "
        f"{after.accepted:,} accepted messages; and held {after.held:,} of {after.refused:,} refused ones.\n"
        "\nmost delayed and held over all days:"
    )
    for line in aligned(HELD_HEADS, answer.most_held):
        click.echo(line)
    click.echo(f"\n{as_lines(chosen.threshold)}", nl=False)


def _row(trial: Trial) -> tuple[object, ...]:
    parts = (trial.choosing, trial.judging)
    shares = (f"{counts.days_share:.2%}" for counts in (*parts, trial.with_history))
    delayed, held = (sum(getattr(counts, name) for counts in parts) for name in ("delayed", "held"))
    return (f"{trial.threshold:g}", trial.spells, *shares, delayed, held)
