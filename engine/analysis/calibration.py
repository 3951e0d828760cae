"""Find a site's own threshold: the most sensitive one that keeps a budget of delayed sender-days on its recorded mail.

A grid of thresholds is replayed in one pass, then a finer grid below the best of them. A threshold is chosen on the first
70 % of the recording, by time, and evaluated on the rest. It is the smallest one such that it and every larger threshold tried
keep the budget. The report shows the refused mail that it would have caught and the networks with most deferred mail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.analysis.backtest import ConfigurationCandidate
from engine.analysis.collateral import Collateral, MailCounts
from engine.analysis.senders import WITH_HISTORY
from engine.config.options import Settings
from engine.detector.budget import percent_of, threshold_of
from engine.pipeline.build import enforcing
from topics.errors import OperatorError
from topics.networks import network_text

COARSE = tuple(2.0**power for power in range(-4, 7))
FINER = 6  # thresholds between two of the coarse grid
CHOOSING_SHARE = 0.7  # of the days; the others evaluate
LEAST_DAYS = 7
MOST_NETWORKS = 10


@dataclass(frozen=True, slots=True)
class Trial:
    """The mail counts of one threshold."""

    threshold: float
    throttles: int
    choosing: MailCounts  # on the days that the threshold is chosen on
    evaluation: MailCounts  # on the days after them
    with_history: MailCounts  # of senders with history, on all days

    def as_json(self) -> dict[str, Any]:
        """Return the trial for programs."""
        parts = {name: getattr(self, name).as_json() for name in ("choosing", "evaluation", "with_history")}
        return {"threshold": self.threshold, "throttles": self.throttles, **parts}


@dataclass(frozen=True, slots=True)
class Calibration:
    """The result of `tidegate calibrate`."""

    budget: float
    trials: list[Trial]  # by threshold
    chosen: Trial | None  # None if no threshold keeps the budget
    most_deferred: list[tuple[str, str, int, int]]  # network, class, messages delayed, messages caught


def calibrate(settings: Settings, budget: float, run: Callable[[list[ConfigurationCandidate]], None]) -> Calibration:
    """Try thresholds and choose one. `budget`: the share of sender-days that may be delayed.

    `run` replays the site's events for candidates. It is called at most twice.
    """
    coarse = _candidates(settings, COARSE)
    run(coarse)
    trials = [trial_of(candidate) for candidate in coarse]
    finer = _candidates(settings, between(trials, budget))
    if finer:
        run(finer)
    trials = sorted([*trials, *map(trial_of, finer)], key=lambda trial: trial.threshold)
    chosen = choose(trials, budget)
    accounts = {threshold_in(candidate.settings): candidate.collateral for candidate in (*coarse, *finer)}
    return Calibration(budget, trials, chosen, [] if chosen is None else _most_deferred(accounts[chosen.threshold]))


def _candidates(settings: Settings, thresholds: Sequence[float]) -> list[ConfigurationCandidate]:
    return [ConfigurationCandidate(with_threshold(enforcing(settings), threshold), 0) for threshold in thresholds]


def _most_deferred(collateral: Collateral) -> list[tuple[str, str, int, int]]:
    """Return the networks with most deferred messages, most first."""
    ordered = sorted(collateral.deferred_mail.items(), key=lambda item: (-item[1].delayed - item[1].caught, item[0]))
    return [(network_text(key), mail.sender, mail.delayed, mail.caught) for key, mail in ordered[:MOST_NETWORKS]]


def trial_of(candidate: ConfigurationCandidate) -> Trial:
    """Return a candidate's trial. Raise OperatorError if the events span too few days."""
    collateral = candidate.collateral
    last = _last_choosing_day(collateral)
    return Trial(
        threshold_in(candidate.settings),
        collateral.throttles,
        collateral.counts(last_day=last),
        collateral.counts(first_day=last + 1),
        collateral.counts(*WITH_HISTORY),
    )


def _last_choosing_day(collateral: Collateral) -> int:
    days = collateral.days
    if not days or days[-1] - days[0] < LEAST_DAYS:
        raise OperatorError(
            f"the events span {days[-1] - days[0] + 1 if days else 0} days: give at least {LEAST_DAYS + 1}, as most "
            "senders are new in the first ones (weeks are better)"
        )
    return days[0] + math.floor((days[-1] - days[0]) * CHOOSING_SHARE)


def choose(trials: Sequence[Trial], budget: float) -> Trial | None:
    """Return the smallest threshold such that it and every larger one keep the budget."""
    chosen = None
    for trial in sorted(trials, key=lambda trial: -trial.threshold):
        if trial.choosing.days_share > budget:
            break
        chosen = trial
    return chosen


def between(trials: Sequence[Trial], budget: float) -> list[float]:
    """Return finer thresholds between the chosen one and the next smaller one tried."""
    chosen = choose(trials, budget)
    if chosen is None:
        return []
    smaller = [trial.threshold for trial in trials if trial.threshold < chosen.threshold]
    if not smaller:
        return []
    ratio = max(smaller) / chosen.threshold
    return [round(chosen.threshold * ratio ** (i / (FINER + 1)), 3) for i in range(1, FINER + 1)]


def with_threshold(settings: Settings, threshold: float) -> Settings:
    """Return the settings with the sensitivity that gives a threshold."""
    return replace(settings, model=replace(settings.model, sensitivity=as_option(threshold)[1]))


def threshold_in(settings: Settings) -> float:
    """Return the threshold of settings, to the four digits with which a budget is written."""
    return float(f"{threshold_of(settings.model.budget_percent):.4g}")


def as_option(threshold: float) -> tuple[str, str]:
    """Return name and value of the option in [model] that gives a threshold."""
    return "sensitivity", f"{percent_of(threshold):.6g}"


def as_lines(threshold: float) -> str:
    """Return the lines of a configuration file that give a threshold."""
    name, value = as_option(threshold)
    return f'[model]\n{name} = "{value}"\n'
