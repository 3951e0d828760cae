"""Which message counts must have changed, by how much and when, if two sets of leaky counts of one sender differ.

What was added at one moment has faded since, on each scale by its own time constant: a change of m messages, t ago, shows as
m exp(-t / tau) on the scale with tau. Two scales give m and t; the others must agree, and m must be whole, or no single
change explains it. Counts are known to half of their last digit, which bounds how well: seconds for what is recent, up to
minutes for what is hours old.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from engine.detector.constants import SCALE_MS, SCALE_NAMES

TAU_MS = dict(zip(SCALE_NAMES, SCALE_MS, strict=True))
FLOAT_STEP = 2.0**-23  # counters are float32; what is added to one is rounded to this share of it
ADDITIONS = 8  # of which so many errors are taken to add up
EVIDENCE_STEP = 0.001  # two counts that were rounded to three digits
SHOWS = 4.0  # times the error: a difference that tells
LEAST_GIVE_MS = 500.0

Counts = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Change:
    """``messages``: so many more now than then, fewer if negative, rejected ones of a sender of which nothing was ever accepted
    six times; of ``at_ms``, give or take ``give_ms``."""

    messages: int
    at_ms: float
    give_ms: float


def shown(then: Counts, now: Counts, step: float) -> dict[str, tuple[float, float]]:
    """By scale that has both, shortest first: how much more is counted now, and how far that can be wrong."""
    return {
        name: (now[name] - then[name], step + ADDITIONS * FLOAT_STEP * max(then[name], now[name]))
        for name in sorted(TAU_MS, key=TAU_MS.__getitem__)
        if name in then and name in now
    }


def differ(then: Counts, now: Counts, step: float) -> bool:
    """Whether counts differ by more than rounding."""
    return any(abs(more) > SHOWS * error for more, error in shown(then, now, step).values())


def single_change(then: Counts, now: Counts, at_ms: float, step: float = EVIDENCE_STEP) -> Change | None:
    """The one change of messages that explains how counts as of ``at_ms`` differ; None if no single one does, or if only one
    scale tells. ``step``: how far the counts were rounded."""
    found = shown(then, now, step)
    telling = [name for name, (more, error) in found.items() if abs(more) > SHOWS * error]
    ages = list(_ages(found, telling))
    if not ages:
        return None
    age_ms, error_ms = min(ages, key=lambda age: age[1])
    longest, (more, error) = telling[-1], found[telling[-1]]
    messages = round(more * math.exp(age_ms / TAU_MS[longest]))
    doubt = abs(messages) * (error / abs(more) + error_ms / TAU_MS[longest])
    if messages == 0 or doubt > 0.5 or messages * more < 0:
        return None
    age_ms, error_ms = min((_age(messages, found[name], TAU_MS[name]) for name in telling), key=lambda age: age[1])
    give_ms = max(LEAST_GIVE_MS, SHOWS * error_ms)
    if age_ms < -give_ms or not all(_agrees(messages, (age_ms, give_ms), found[name], TAU_MS[name]) for name in found):
        return None
    return Change(messages, at_ms - age_ms, give_ms)


def _ages(found: Mapping[str, tuple[float, float]], telling: list[str]) -> Iterator[tuple[float, float]]:
    """How long ago it was by each pair of scales, and how far that can be wrong."""
    for short, long in combinations(telling, 2):
        (a, a_error), (b, b_error) = found[short], found[long]
        if a * b > 0:
            slope_ms = 1 / (1 / TAU_MS[short] - 1 / TAU_MS[long])
            yield slope_ms * math.log(b / a), slope_ms * (a_error / abs(a) + b_error / abs(b))


def _age(messages: int, shown_by: tuple[float, float], tau_ms: float) -> tuple[float, float]:
    """How long ago so many messages were added, and how far that can be wrong."""
    more, error = shown_by
    return (tau_ms * math.log(messages / more), tau_ms * error / abs(more)) if more * messages > 0 else (0.0, math.inf)


def _agrees(messages: int, age: tuple[float, float], shown_by: tuple[float, float], tau_ms: float) -> bool:
    """Whether a scale shows what the change must have left on it."""
    (age_ms, give_ms), (more, error) = age, shown_by
    least, most = sorted(messages * math.exp(-(age_ms + off_ms) / tau_ms) for off_ms in (-give_ms, give_ms))
    return least - SHOWS * error <= more <= most + SHOWS * error
