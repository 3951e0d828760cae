"""The site's budget: the share of regular mail that may be held back, and how T follows it. Once a UTC day of the site's clock.

Booked is what throttles held back of known senders, and of newcomers once they have become known: labels that time gives.
A sender's day counts as one of its busy hours at most. An honest record and a compromised host look alike, so what one
sender can book must be small; booked hours follow the true share over sites and volumes within a factor of two.

    share  = (booked + target belief) / (demand + belief),   target = budget OBSERVED,   both fading over 90 days
    log T  -> log(T of the knob) + log(share / target), 0.03 a day, within a factor of 4

*Learning*: a new site decides nothing until two days are over, its cohort has 16 newcomers, and what it would have held
back on the day that ends is within twice the budget; at longest `learning_ms`. Its first two days' senders give the scale.
Rejected variants, with figures: `engine/detector/README.md`.
"""

from __future__ import annotations

import math
from typing import Any

from engine.detector.cohort import stretch
from engine.detector.constants import (
    BELIEF,
    BUDGET,
    BUDGET_POWER,
    DAY_MS,
    FAR_DAY,
    FOLLOW_DAYS,
    LEAN_MOST,
    LEAN_STEP,
    LEARN_LEAST_DAYS,
    LEARN_NEWCOMERS,
    LEARN_SHARE,
    OBSERVED,
    PROBATION_DAYS,
)
from topics.columns.jit import inline
from topics.columns.memory import float64


@inline
def demanded(row: Any, site: Any, messages: int) -> None:
    """Accepted messages: everybody's demand of the day, and that of known senders."""
    site.day_demand += messages
    if row.active_days > PROBATION_DAYS:
        site.demand += messages


@inline
def book(row: Any, site: Any) -> None:
    """A known sender's day closes: book what was held back. A sender that has just become known brings its past along."""
    site.booked += min(float64(row.held), math.exp(float64(row.typical)) - 1.0)
    row.held = 0
    if row.active_days == PROBATION_DAYS + 1:
        site.demand += row.accepted


@inline
def _follow(site: Any, target: float) -> None:
    share = (site.booked + target * BELIEF) / (site.demand + BELIEF)
    step = max(-LEAN_STEP, min(LEAN_STEP, math.log(share / target) - math.log(site.lean)))
    site.lean = max(1.0 / LEAN_MOST, min(LEAN_MOST, site.lean * math.exp(step)))


@inline
def _learn(site: Any, today: int, budget: float, learning_ms: int) -> None:
    age_ms = site.clock_ms - site.first_ms
    if site.stretched_s == 0 and age_ms >= LEARN_LEAST_DAYS * DAY_MS:
        site.stretched_s = site.clock_ms // 1000
        site.counted = 0
        stretch(site)
    credible = (
        site.stretched_s > 0
        and site.counted >= LEARN_NEWCOMERS
        and site.day_held <= LEARN_SHARE * budget * site.day_demand
    )
    if site.decides_from == FAR_DAY and (credible or age_ms >= learning_ms):
        site.decides_from = today


@inline
def open_site(site: Any, t_ms: int, learning_ms: int) -> None:
    """The site's first event."""
    site.first_ms = t_ms
    site.day = t_ms // DAY_MS
    if learning_ms == 0:
        site.decides_from = site.day


@inline
def close_site_day(site: Any, today: int, threshold: float, learning_ms: int) -> None:
    """End the site's open day; ``today`` is a later one. ``threshold``: the knob's T."""
    budget = BUDGET * threshold ** (-1.0 / BUDGET_POWER)
    _follow(site, OBSERVED * budget)
    kept = math.exp(-(today - site.day) / FOLLOW_DAYS)
    site.demand *= kept
    site.booked *= kept
    _learn(site, today, budget, learning_ms)
    site.day = today
    site.day_demand = site.day_held = 0.0


@inline
def decides(site: Any, policy: Any) -> bool:
    """Whether decisions are published, and not only counted."""
    return bool(policy.decides and site.day >= site.decides_from)


def threshold_of(percent: float) -> float:
    """T for a budget in percent of regular mail."""
    return float((100 * BUDGET / percent) ** BUDGET_POWER)


def percent_of(threshold: float) -> float:
    """The budget in percent that leads to a T."""
    return float(100 * BUDGET * threshold ** (-1 / BUDGET_POWER))
