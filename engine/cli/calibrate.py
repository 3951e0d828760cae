"""`tidegate calibrate`: choose a site's threshold from its recorded events and a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import orjson

from engine.analysis.calibration import as_lines
from engine.cli.files import event_files
from engine.cli.options import settings_from
from engine.cli.sources import report_poison
from engine.cli.table import aligned

if TYPE_CHECKING:
    from engine.analysis.calibration import Calibration, Trial

HEADS = ("threshold", "throttles", "sender-days: choosing", "evaluation", "with history", "messages delayed", "caught")
NETWORK_HEADS = ("network", "sender", "delayed", "caught")
EVENTS = click.Path(exists=True, dir_okay=False)


@click.command(epilog="Example:  tidegate calibrate events.ndjson.gz --budget 0.5")
@click.argument("events", nargs=-1, required=True, type=EVENTS)
@click.option(
    "--budget", type=click.FloatRange(0, 100, min_open=True), default=0.5, show_default=True, metavar="PERCENT",
    help="Percentage of sender-days on which mail may be delayed.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.pass_context
def calibrate(ctx: click.Context, events: tuple[str, ...], budget: float, as_json: bool) -> None:
    """Choose the most sensitive threshold within a budget, and show the mail that it would have delayed and caught.

    A sender-day is a day on which a sender had mail accepted; it counts as delayed if some of that mail was. The threshold
    is chosen on the first 70 % of the days and evaluated on the rest. The files are read twice. They must hold all events of
    the site, in order of time, for at least eight days.

    Exit status: 0, or 1 if no threshold keeps the budget, or 2 for misuse.
    """
    settings = settings_from(ctx)
    from engine.analysis import calibration
    from engine.analysis.backtest import ConfigurationCandidate, backtest
    from engine.pipeline import build
    from engine.pipeline.precompile import precompile

    build.require_peak_memory(settings, "calibrate")
    precompile()

    def run(candidates: list[ConfigurationCandidate]) -> None:
        counts = backtest(candidates, event_files(events, f"{len(candidates)} thresholds"))
        if len(candidates) == len(calibration.COARSE):
            report_poison(counts)

    result = calibration.calibrate(settings, budget / 100, run)
    if as_json:
        click.echo(orjson.dumps({"budget_percent": budget, **_json_object(result)}))
    else:
        show(result)
    ctx.exit(1 if result.chosen is None else 0)


def _json_object(result: Calibration) -> dict[str, Any]:
    return {
        "chosen": None if result.chosen is None else result.chosen.as_json(),
        "most_deferred": [dict(zip(NETWORK_HEADS, row, strict=True)) for row in result.most_deferred],
        "trials": [trial.as_json() for trial in result.trials],
    }


def show(result: Calibration) -> None:
    """Print the trials, the chosen threshold and its consequences."""
    for line in aligned(HEADS, [_row(trial) for trial in result.trials]):
        click.echo(line)
    chosen = result.chosen
    if chosen is None:
        click.echo(f"\nno threshold up to {result.trials[-1].threshold:g} keeps a budget of {result.budget:.2%}")
        return
    after = chosen.evaluation
    click.echo(
        f"\nchosen threshold: {chosen.threshold:g}. On the evaluation days it would have delayed mail on "
        f"{after.sender_days_delayed:,} of {after.sender_days:,} sender-days ({after.days_share:.2%}): {after.delayed:,} of "
        f"{after.accepted:,} accepted messages. It would have caught {after.caught:,} of {after.refused:,} refused messages.\n"
        "\nnetworks with most deferred mail, over all days:"
    )
    for line in aligned(NETWORK_HEADS, result.most_deferred):
        click.echo(line)
    click.echo(f"\n{as_lines(chosen.threshold)}", nl=False)


def _row(trial: Trial) -> tuple[object, ...]:
    parts = (trial.choosing, trial.evaluation)
    shares = (f"{counts.days_share:.2%}" for counts in (*parts, trial.with_history))
    delayed, caught = (sum(getattr(counts, name) for counts in parts) for name in ("delayed", "caught"))
    return (f"{trial.threshold:g}", trial.throttles, *shares, delayed, caught)
