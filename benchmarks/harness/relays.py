"""Busy relays whose mail is all regular: seasonal, bursty, heavy-tailed, with mail-outs. Seeded.

Each has a mean rate, drawn log-evenly from 500 to 20,000 messages an hour; a working day with its own hours and a quieter
weekend; hours that vary log-normally, minutes that vary again within them; and mail-outs, one or two a week, of a size with
Pareto's tail (index 1.5: one in thirty is ten times the least), sent within 10 to 90 minutes. Counts are
Poisson, an event each half minute. `jump` multiplies what one relay sends from a moment on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from topics.columns.scan import ACCEPTED, READY, EventColumns, empty_columns

DAY_MS = 86_400_000
TICK_MS = 30_000
TICKS = DAY_MS // TICK_MS
MONDAY_MS = 1_767_571_200_000
IPV4_TAG = 0xFFFFFFFF_00000000
LEAST_AN_HOUR, MOST_AN_HOUR = 500, 20_000
TAIL = 1.5

Counts = npt.NDArray[np.int64]


class Relays(NamedTuple):
    """``messages``: int64[relay, tick] by half minute; ``means``: messages an hour on a weekday's average."""

    messages: Counts
    means: npt.NDArray[np.float64]


def _season(rng: np.random.Generator, days: int, rough: float) -> npt.NDArray[np.float64]:
    """Share of the mean rate by tick: a working day, a weekend, log-normal hours and minutes."""
    hour = np.arange(days * TICKS) * 24.0 / TICKS
    shape = 1.0 + rough * rng.uniform(0.3, 0.9) * np.cos((hour - rng.uniform(10, 16)) * np.pi / 12)
    weekend = np.where(hour // 24 % 7 >= 5, rng.uniform(0.2, 0.8), 1.0)
    hours = np.repeat(rng.lognormal(0, rough * rng.uniform(0.2, 0.5), days * 24), TICKS // 24)
    minutes = np.repeat(rng.lognormal(0, rough * 0.3, days * TICKS // 2), 2)
    share: npt.NDArray[np.float64] = shape * weekend * hours * minutes
    return share


def _mail_outs(rng: np.random.Generator, days: int, mean: float) -> npt.NDArray[np.float64]:
    """Messages by tick: one or two a week, at least an hour's mean each."""
    ticks = np.zeros(days * TICKS)
    for _ in range(rng.poisson(days * rng.uniform(1, 2) / 7)):
        start = rng.integers(0, len(ticks))
        span = rng.integers(10, 90) * 2
        ticks[start : start + span] += mean * (1 + rng.pareto(TAIL)) / span
    return ticks


def relays(seed: int, count: int, days: int) -> Relays:
    """``count`` relays over so many days from a Monday on."""
    rng = np.random.default_rng(seed)
    means = np.exp(rng.uniform(np.log(LEAST_AN_HOUR), np.log(MOST_AN_HOUR), count))
    messages = [
        rng.poisson(_season(rng, days, 1.0) * each * 24 / TICKS + _mail_outs(rng, days, each))
        for each in means.tolist()
    ]
    return Relays(np.array(messages, np.int64), means)


def steady(seed: int, days: int, mean: float) -> Relays:
    """One relay that varies by a third of what others do and has no mail-outs."""
    rng = np.random.default_rng(seed)
    return Relays(rng.poisson(_season(rng, days, 0.3) * mean * 24 / TICKS)[None, :], np.array([mean]))


def jump(found: Relays, relay: int, tick: int, factor: int) -> Relays:
    """The same, but for a relay that sends ``factor`` times as much from a tick on, for an hour."""
    messages = found.messages.copy()
    messages[relay, tick : tick + TICKS // 24] *= factor
    return Relays(messages, found.means)


def columns_of(found: Relays) -> EventColumns:
    """Their events in order of time; a tick without messages has none."""
    tick, relay = np.nonzero(found.messages.T)
    columns = empty_columns(len(tick))
    columns.ts_ms[:] = columns.record_ms[:] = MONDAY_MS + tick * TICK_MS + relay * 100
    columns.key[:] = np.uint64(IPV4_TAG + 0x0A000000) + relay.astype(np.uint64) * np.uint64(65_536)
    columns.messages[:] = found.messages[relay, tick]
    columns.outcome[:], columns.status[:] = ACCEPTED, READY
    columns.offset[:] = np.arange(len(tick))
    return columns


def held_back(columns: EventColumns, verdicts: npt.NDArray[Any]) -> Counts:
    """Messages that an edge without delay would have deferred, by event."""
    held = np.zeros(len(columns.offset), np.int64)
    for key in np.unique(verdicts["key"]):
        events = np.flatnonzero(columns.key == key)
        own = verdicts[verdicts["key"] == key]
        held[events] = _one_bucket(columns.ts_ms[events], columns.messages[events].astype(np.int64), own)
    return held


def _one_bucket(ts_ms: Counts, messages: Counts, verdicts: npt.NDArray[Any]) -> Counts:
    """One sender's token bucket: `issued` holds for the event of that time; a repeated decision refills nothing."""
    held = np.zeros(len(ts_ms), np.int64)
    tokens, rate_per_ms, size, until_ms, since_ms, said = 0.0, 0.0, 0.0, -1, 0, 0
    for i, (now_ms, count) in enumerate(zip(ts_ms.tolist(), messages.tolist(), strict=True)):
        tokens, since_ms = min(size, tokens + rate_per_ms * (now_ms - since_ms)), now_ms
        while said < len(verdicts) and verdicts["issued_ms"][said] <= now_ms:
            verdict = verdicts[said]
            live, size = until_ms > now_ms, float(verdict["burst"])
            tokens = min(tokens, size) if live else size
            rate_per_ms, until_ms = float(verdict["rate_per_h"]) / 3_600_000, int(verdict["until_ms"])
            said += 1
        if until_ms > now_ms:
            passed = min(count, int(tokens + 1e-9))
            tokens -= passed
            held[i] = count - passed
    return held
