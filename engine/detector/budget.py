"""The site's budget, the share of regular mail that may be deferred, and how T follows it once per UTC day of its clock.

Known senders are charged for their deferred messages, newcomers once they have become known: time labels them. One day costs
a sender at most one of its busy hours. An honest and a compromised host's excess look alike, so one sender's charge must be
small; charged hours follow the true share over sites and volumes within a factor of two.

    share  = (charged + target x prior) / (demand + prior),   target = budget x OBSERVED_SHARE,   both decayed over 90 days
    log T  -> log(Policy.threshold) + log(share / target), 0.03 per day, within a factor of 4

*Learning*: a new site publishes no decision until two days are over, its cohort has 16 newcomers, and the share of mail that
it would have deferred on the closing day is within twice the budget; `learning_ms` at most. The senders of its first two
days give the scale. Rejected variants with figures: `engine/detector/README.md`.
"""

from __future__ import annotations

import math
from typing import Any

from engine.detector.cohort import rescale_prior
from engine.detector.constants import (
    BUDGET,
    BUDGET_DECAY_DAYS,
    BUDGET_POWER,
    BUDGET_PRIOR,
    DAY_MS,
    FAR_DAY,
    LEARN_LEAST_DAYS,
    LEARN_NEWCOMERS,
    LEARN_SHARE,
    OBSERVED_SHARE,
    PROBATION_DAYS,
    THRESHOLD_SCALE_MOST,
    THRESHOLD_STEP,
)
from topics.columns.jit import inline
from topics.columns.memory import float64


def threshold_of(percent: float) -> float:
    """Return T for a budget in percent of regular mail."""
    return float((100 * BUDGET / percent) ** BUDGET_POWER)


def percent_of(threshold: float) -> float:
    """Return the budget in percent of regular mail for a T."""
    return float(100 * BUDGET * threshold ** (-1 / BUDGET_POWER))


@inline
def decides(site: Any, policy: Any) -> bool:
    """Return True if decisions are published, False if they are only counted."""
    return bool(policy.decides and site.day >= site.decides_from)


@inline
def add_demand(row: Any, site: Any, messages: int) -> None:
    """Add accepted messages to the day's demand of all senders, and to the demand of known senders."""
    site.budget_day_demand += messages
    if row.active_days > PROBATION_DAYS:
        site.budget_demand += messages


@inline
def charge(row: Any, site: Any) -> None:
    """Charge a known sender's deferred messages to the budget when its day closes.

    A sender that has just become known adds its past demand.
    """
    site.budget_charged += min(float64(row.deferred), math.exp(float64(row.typical)) - 1.0)
    row.deferred = 0
    if row.active_days == PROBATION_DAYS + 1:
        site.budget_demand += row.accepted


@inline
def open_site(site: Any, t_ms: int, learning_ms: int) -> None:
    """Open the site's first day at its first event."""
    site.first_ms = t_ms
    site.day = t_ms // DAY_MS
    if learning_ms == 0:
        site.decides_from = site.day


@inline
def _scale_threshold(site: Any, target: float) -> None:
    """Move T by one day's step towards the share of known senders' mail that is charged."""
    share = (site.budget_charged + target * BUDGET_PRIOR) / (site.budget_demand + BUDGET_PRIOR)
    step = max(-THRESHOLD_STEP, min(THRESHOLD_STEP, math.log(share / target) - math.log(site.threshold_scale)))
    scale = site.threshold_scale * math.exp(step)
    site.threshold_scale = max(1.0 / THRESHOLD_SCALE_MOST, min(THRESHOLD_SCALE_MOST, scale))


@inline
def _update_learning(site: Any, today: int, budget: float, learning_ms: int) -> None:
    """Rescale the cohort after two days, and start deciding once the site is credible or has learned long enough."""
    age_ms = site.clock_ms - site.first_ms
    if site.cohort_rescaled_s == 0 and age_ms >= LEARN_LEAST_DAYS * DAY_MS:
        site.cohort_rescaled_s = site.clock_ms // 1000
        site.cohort_counted = 0
        rescale_prior(site)
    credible = (
        site.cohort_rescaled_s > 0
        and site.cohort_counted >= LEARN_NEWCOMERS
        and site.budget_day_deferred <= LEARN_SHARE * budget * site.budget_day_demand
    )
    if site.decides_from == FAR_DAY and (credible or age_ms >= learning_ms):
        site.decides_from = today


@inline
def close_site_day(site: Any, today: int, threshold: float, learning_ms: int) -> None:
    """Close the site's open day and open `today`, a later one. `threshold` is Policy.threshold."""
    budget = BUDGET * threshold ** (-1.0 / BUDGET_POWER)
    _scale_threshold(site, OBSERVED_SHARE * budget)
    decay = math.exp(-(today - site.day) / BUDGET_DECAY_DAYS)
    site.budget_demand *= decay
    site.budget_charged *= decay
    _update_learning(site, today, budget, learning_ms)
    site.day = today
    site.budget_day_demand = site.budget_day_deferred = 0.0
