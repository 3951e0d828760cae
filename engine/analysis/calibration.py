"""A site's own threshold: the most sensitive that its recorded mail allows within a budget of sender-days delayed.

A grid of thresholds is replayed in one pass, then a finer one around the answer. A threshold is chosen on the first part of
the recording (by time) and judged on the rest, which it wasn't chosen on; it is the smallest one that keeps the budget and
above which every other tried one does too. What it would have caught: refused mail held, and the networks held most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.analysis.backtest import Contender
from engine.analysis.collateral import Counts, Ledger
from engine.analysis.senders import WITH_HISTORY
from engine.config.options import Settings
from engine.detector.budget import percent_of, threshold_of
from engine.pipeline.build import enforcing
from topics.errors import OperatorError
from topics.keys import network_text

COARSE = tuple(2.0**power for power in range(-4, 7))
FINER = 6  # thresholds between two of the coarse grid
CHOOSING_SHARE = 0.7  # of the days; the others judge
LEAST_DAYS = 7
NAMED = 10


@dataclass(frozen=True, slots=True)
class Trial:
    """One threshold: what it does while choosing, afterwards, and to senders with history all along."""

    threshold: float
    spells: int
    choosing: Counts
    judging: Counts
    with_history: Counts

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        parts = {name: getattr(self, name).as_json() for name in ("choosing", "judging", "with_history")}
        return {"threshold": self.threshold, "spells": self.spells, **parts}


@dataclass(frozen=True, slots=True)
class Calibration:
    """``chosen``: None if no threshold keeps the budget. ``most_held``: networks with messages delayed and held."""

    budget: float
    trials: list[Trial]
    chosen: Trial | None
    most_held: list[tuple[str, str, int, int]]


def trial_of(contender: Contender) -> Trial:
    """What a contender's books say of its threshold."""
    ledger = contender.ledger
    last = _last_choosing_day(ledger)
    return Trial(
        threshold(contender.settings),
        ledger.throttled,
        ledger.counts(last_day=last),
        ledger.counts(first_day=last + 1),
        ledger.counts(*WITH_HISTORY),
    )


def _last_choosing_day(ledger: Ledger) -> int:
    """OperatorError if there are too few days to choose on some and judge on others."""
    days = ledger.days
    if not days or days[-1] - days[0] < LEAST_DAYS:
        raise OperatorError(
            f"the events span {days[-1] - days[0] + 1 if days else 0} days: give at least {LEAST_DAYS + 1}, as most "
            "senders are new in the first ones (weeks are better)"
        )
    return days[0] + math.floor((days[-1] - days[0]) * CHOOSING_SHARE)


def choose(trials: Sequence[Trial], budget: float) -> Trial | None:
    """The smallest threshold from which on every trial keeps the budget."""
    chosen = None
    for trial in sorted(trials, key=lambda trial: -trial.threshold):
        if trial.choosing.days_share > budget:
            break
        chosen = trial
    return chosen


def between(trials: Sequence[Trial], budget: float) -> list[float]:
    """Finer thresholds below the one that is chosen, down to the next smaller one tried."""
    chosen = choose(trials, budget)
    if chosen is None:
        return []
    smaller = [trial.threshold for trial in trials if trial.threshold < chosen.threshold]
    if not smaller:
        return []
    ratio = max(smaller) / chosen.threshold
    return [round(chosen.threshold * ratio ** (i / (FINER + 1)), 3) for i in range(1, FINER + 1)]


def calibrate(settings: Settings, budget: float, run: Callable[[list[Contender]], None]) -> Calibration:
    """Try thresholds; ``run`` replays the site's events for contenders, and is called twice. ``budget``: the share
    of sender-days on which mail may be delayed."""
    contenders = _contenders(settings, COARSE)
    run(contenders)
    trials = [trial_of(contender) for contender in contenders]
    finer = _contenders(settings, between(trials, budget))
    if finer:
        run(finer)
    trials = sorted([*trials, *map(trial_of, finer)], key=lambda trial: trial.threshold)
    chosen = choose(trials, budget)
    ledgers = {threshold(contender.settings): contender.ledger for contender in (*contenders, *finer)}
    return Calibration(budget, trials, chosen, [] if chosen is None else _most_held(ledgers[chosen.threshold]))


def _contenders(settings: Settings, thresholds: Sequence[float]) -> list[Contender]:
    return [Contender(turned(enforcing(settings), threshold), 0) for threshold in thresholds]


def _most_held(ledger: Ledger) -> list[tuple[str, str, int, int]]:
    """Networks with their class, messages delayed and held; the most first."""
    ordered = sorted(ledger.touched.items(), key=lambda item: (-item[1].delayed - item[1].held, item[0]))
    return [(network_text(key), found.sender, found.delayed, found.held) for key, found in ordered[:NAMED]]


def turned(settings: Settings, threshold: float) -> Settings:
    """The same settings with the budget that leads to another T."""
    return replace(settings, model=replace(settings.model, sensitivity=as_option(threshold)[1]))


def threshold(settings: Settings) -> float:
    """T of settings, to the four digits that a budget is written with."""
    return float(f"{threshold_of(settings.model.budget_percent):.4g}")


def as_option(threshold: float) -> tuple[str, str]:
    """The option of [model] that leads to a T, by name and value, as a file or the environment says it."""
    return "sensitivity", f"{percent_of(threshold):.6g}"


def as_lines(threshold: float) -> str:
    """The same for a configuration file."""
    name, value = as_option(threshold)
    return f'[model]\n{name} = "{value}"\n'
