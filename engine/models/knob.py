"""The operator's budget and T, which the model computes with: half of it throttles sooner, twice of it later.

T = (0.415 % / budget)^1.2, a line in logarithms through what fixed thresholds from 0.5 to 5 deferred of the legitimate
mail of seven traces (0.13 to 0.8 %). It is where a site begins; from there T follows the budget (`engine.models.budget`).
"""

from __future__ import annotations

from engine.models.constants import BUDGET, BUDGET_POWER


def threshold_of(percent: float) -> float:
    """T for a budget in percent of regular mail."""
    return float((100 * BUDGET / percent) ** BUDGET_POWER)


def percent_of(threshold: float) -> float:
    """The budget in percent that leads to a T."""
    return float(100 * BUDGET * threshold ** (-1 / BUDGET_POWER))
