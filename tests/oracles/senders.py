"""A sender in plain Python: its state, its limits, and the close of its day.

Units, order of scales and rounding are those of `tests.oracles.detector`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SCALES = ("1h", "6h", "24h", "10m", "1m")
EACH = (0, 1, 2, 3, 4)
SLOW = (0, 1, 2)
FAST = (3, 4)
DAY_SCALE = 2
TAU_HOURS = (1.0, 6.0, 24.0, 1 / 6, 1 / 60)
TAU_MS = (HOUR_MS, 6 * HOUR_MS, 24 * HOUR_MS, HOUR_MS // 6, HOUR_MS // 60)
NEGLIGIBLE = 1e-12

KNOWN_GROWTH = (4.0, 3.0, 3.0, 2.5, 3.0)
FAST_LEAST = 30.0
FAST_TERM_MS = 600_000
PROBATION_DAYS = 3
PROBATION_GROWTH = 2.75
FLOOR_SHARE = 0.8
FLOOR_AGE_DAYS = 50
FLOOR_LEAST = 0.3
MEMORY_HALF_LIFE_DAYS = 120
CLIP = 4.0
BRAKE_FROM = 8.0
BRAKE_GROWTH = 1.5
REJECTED_WEIGHT = 6
WEIGHT_FIRST = 4.0
WEIGHT_MOST = 60.0
IDLE_DAYS = 7
IDLE_DECAY_DAYS = 30

ESTABLISHED_WEIGHT = 30.0
MILD = 2.0
CAP = 5.0

MOST_COUNT = 65_535


def single(x: float) -> float:
    """Return the float64 that a float32 field gives back after `x` was stored in it."""
    return float(np.float32(x))


@dataclass
class OracleRow:
    """The row of one sender; a new one is a newcomer's at its first event. Lists are by scale."""

    last_ms: int
    first_seen_s: int
    day: int
    typical: float
    until_ms: int = 0
    active_days: int = 0
    accepted: int = 0
    rejected: int = 0
    counter: list[float] = field(default_factory=lambda: [0.0] * 5)
    peak: list[float] = field(default_factory=lambda: [0.0] * 5)
    memory: list[float] = field(default_factory=lambda: [0.0] * 5)
    weight: float = WEIGHT_FIRST
    rate_per_h: float = 0.0
    tokens: float = 0.0
    deferred: int = 0
    passes: bool = False
    bin: list[int] = field(default_factory=lambda: [0, 0, 0])
    counted: bool = False


def known_growth(scale: int, active_days: int) -> float:
    """Return G_s · (1 + 3/A), the allowed multiple of a known sender's baseline."""
    return KNOWN_GROWTH[scale] * (1.0 + 3.0 / active_days)


def floor_of(lnew: float, active_days: int, threshold: float) -> float:
    """Return the least limit of a known sender: T · Lnew_s · 0.8 · max(0.3, 1/sqrt(1 + A/50))."""
    tenure = max(FLOOR_LEAST, 1.0 / math.sqrt(1.0 + active_days / FLOOR_AGE_DAYS))
    return threshold * lnew * FLOOR_SHARE * tenure


def limits_of(row: OracleRow, lnew: list[float], threshold: float) -> tuple[float, ...]:
    """Return L_s: T · Lnew_s for a newcomer, max(2.75 M_s, floor) on probation, max(T^1/4 · G_s (1 + 3/A) · M_s, floor) after.

    The fast two: T^1/4 · G_s (1 + 3/A) · M_s for a known sender with a baseline of 30 messages there, else none.
    """
    days = row.active_days
    if days == 0:
        slow = [threshold * lnew[s] for s in SLOW]
        return (*slow, math.inf, math.inf)
    floors = [floor_of(lnew[s], days, threshold) for s in SLOW]
    if days <= PROBATION_DAYS:
        slow = [max(PROBATION_GROWTH * row.memory[s], floors[s]) for s in SLOW]
        return (*slow, math.inf, math.inf)
    factor = math.sqrt(math.sqrt(threshold))
    own = [factor * known_growth(s, days) * row.memory[s] for s in EACH]
    slow = [max(own[s], floors[s]) for s in SLOW]
    return (*slow, *(own[s] if row.memory[s] >= FAST_LEAST else math.inf for s in FAST))


def closing_limit(row: OracleRow, scale: int, lnew: float) -> float:
    """Return L*_s of the day that closes, at T = 1 with floor 0.8 Lnew_s; Lnew_s for a sender's first day."""
    days = row.active_days
    if days == 0:
        return lnew
    growth = PROBATION_GROWTH if days <= PROBATION_DAYS else known_growth(scale, days)
    return max(growth * row.memory[scale], FLOOR_SHARE * lnew)


def learned_peak(row: OracleRow, scale: int, lnew: float, learning: bool) -> float:
    """Return E_s: the day's peak, clipped to 4 L*_s, and above 8 Lnew_s braked to 1.5 times the baseline.

    On a day that ends before the site decides, the peak is returned unchanged.
    """
    if learning:
        return row.peak[scale]
    learned = min(row.peak[scale], CLIP * closing_limit(row, scale, lnew))
    if learned > BRAKE_FROM * lnew:
        learned = max(min(learned, BRAKE_GROWTH * row.memory[scale]), BRAKE_FROM * lnew)
    return learned


def close_day(row: OracleRow, idle_days: int, lnew: list[float], learning: bool = False) -> None:
    """End the row's day, `idle_days` >= 1 after it: M_s = max(M_s · 2^(-idle/120), E_s), and the typical busy hour.

    m moves to ln(1 + E_1h) by 1/w with w = min(w + 1, 60). Idle days beyond 7 decay w by exp(-(idle - 7)/30), not below 4.
    """
    learned = [learned_peak(row, s, lnew[s if s in SLOW else 0], learning) for s in EACH]
    decay = 2.0 ** (-idle_days / MEMORY_HALF_LIFE_DAYS)
    row.memory = [single(max(row.memory[s] * decay, learned[s])) for s in EACH]
    row.peak = [0.0] * 5
    weight = min(row.weight + 1.0, WEIGHT_MOST)
    if learning and row.active_days == 0:
        row.typical = math.log(1.0 + learned[0])
    row.typical = single(row.typical + (math.log(1.0 + learned[0]) - row.typical) / weight)
    if idle_days > IDLE_DAYS:
        weight = max(WEIGHT_FIRST, weight * math.exp(-(idle_days - IDLE_DAYS) / IDLE_DECAY_DAYS))
    row.weight = math.floor(1000.0 * weight) / 1000.0
    row.active_days = min(MOST_COUNT, row.active_days + 1)


def demand_of(row: OracleRow, messages: int, outcome: str) -> int:
    """Return d: 0 for a retry, sixfold if rejected and the sender never had a message accepted, else the messages."""
    if outcome == "deferred":
        return 0
    if outcome == "rejected" and row.accepted == 0:
        return REJECTED_WEIGHT * messages
    return messages


def add_demand(row: OracleRow, t_ms: int, demand: int) -> None:
    """Set c_s = c_s · exp(-dt/tau_s) + d with dt >= 0 since the latest event, factors below 1e-12 as 0; and the day's peak."""
    dt_ms = max(0, t_ms - row.last_ms)
    for s in EACH:
        decay = math.exp(-dt_ms / TAU_MS[s])
        decayed = row.counter[s] * (decay if decay > NEGLIGIBLE else 0.0)
        row.counter[s] = single(decayed + demand)
        row.peak[s] = max(row.peak[s], row.counter[s])
    row.last_ms = max(row.last_ms, t_ms)


def count_outcome(row: OracleRow, messages: int, outcome: str) -> None:
    """Count the messages accepted and rejected so far, up to 65,535 each."""
    if outcome == "accepted":
        row.accepted = min(MOST_COUNT, row.accepted + messages)
    elif outcome == "rejected":
        row.rejected = min(MOST_COUNT, row.rejected + messages)


def is_capped(row: OracleRow) -> bool:
    """Return True if five times a known sender's best day were deferred on the open day."""
    return row.active_days > PROBATION_DAYS and row.deferred >= CAP * row.memory[DAY_SCALE]


def may_use_limit(row: OracleRow, limits: tuple[float, ...], lasts: bool, lnew: list[float]) -> bool:
    """Return True if the excess may continue at the hourly limit.

    The sender is established (a month of weight) and big (a best day of a newcomer's limit); the excess is a first one of at
    most two limits, or any once it is capped.
    """
    if row.active_days <= PROBATION_DAYS or row.weight < ESTABLISHED_WEIGHT or row.memory[DAY_SCALE] < lnew[DAY_SCALE]:
        return False
    return is_capped(row) or (not lasts and all(row.counter[s] <= MILD * limits[s] for s in EACH))


def allowed_rate(
    row: OracleRow, limits: tuple[float, ...], exceeded: list[int], lasts: bool, lnew: list[float]
) -> float:
    """Return messages an hour: exp(m) - 1 + 1/2 once a day has closed, the least exceeded L_s/(4 tau_s) before.

    The hour's limit if `may_use_limit`.
    """
    if row.active_days == 0:
        return min(limits[s] / (4.0 * TAU_HOURS[s]) for s in exceeded)
    usual = math.exp(row.typical) - 1.0 + 0.5
    return max(usual, limits[0]) if may_use_limit(row, limits, lasts, lnew) else usual


def burst_of(rate_per_h: float) -> float:
    """Return one hour's worth, at least one message."""
    return max(1.0, rate_per_h)
