"""The simulated month (31 UTC days that end at midnight; the last has the attacks) and the distribution of a day's mail.

A quantile table has 4,096 entries, so 12 random bits select a time of day or a number of messages by indexing: integers only,
equal on every machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
DAYS = 31
LAST_END_MS = 253_402_300_800_000  # events end with the year 9999
SATURDAY = 5

QUANTILES = 4096

WORKING, EVENING, EVEN = 0, 1, 2
_HOURLY = (
    (2, 1, 1, 1, 1, 3, 9, 28, 62, 92, 100, 94, 62, 78, 94, 90, 80, 58, 28, 16, 11, 8, 6, 4),
    (22, 13, 8, 6, 7, 12, 26, 46, 60, 68, 70, 72, 76, 72, 70, 72, 76, 84, 94, 100, 98, 86, 62, 38),
    (46, 40, 52, 44, 42, 46, 54, 64, 76, 84, 84, 80, 74, 78, 80, 78, 74, 66, 60, 58, 56, 54, 52, 50),
)

NONE, ONE, FEW, MANY = 0, 1, 2, 3
_ANOTHER_MESSAGE = {FEW: 0.11, MANY: 0.55}  # probability that a connection carries one more
_MAX_MESSAGES = 60


class Month(NamedTuple):
    """The month is [start_ms, end_ms)."""

    start_ms: int
    last_day_ms: int  # start of its last UTC day
    end_ms: int

    def weekday(self, day: npt.NDArray[np.int64] | int) -> npt.NDArray[np.int64]:
        """Return the weekday, 0 = Monday, of days counted from the month's first."""
        return (np.asarray(day, np.int64) + self.start_ms // DAY_MS + 3) % 7


def month_until(end_ms: int) -> Month:
    """Return the 31 days before `end_ms`. Raise ValueError unless it is a UTC midnight in years 1970 to 9999, in epoch ms."""
    if end_ms % DAY_MS or not DAYS * DAY_MS <= end_ms <= LAST_END_MS:
        raise ValueError(
            f"the month's end, {end_ms}, is not a UTC midnight from February 1970 to the year 9999, in epoch ms"
        )
    return Month(end_ms - DAYS * DAY_MS, end_ms - DAY_MS, end_ms)


def times_of_day() -> npt.NDArray[np.int64]:
    """Return local times of day in ms, int64[rhythm, 4096], by quantile. Rhythms: WORKING, EVENING, nearly EVEN."""
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    edges = np.arange(25) * HOUR_MS
    cumulative = [np.concatenate(([0], np.cumsum(hourly))) / sum(hourly) for hourly in _HOURLY]
    return np.stack([np.interp(at, share, edges).astype(np.int64) for share in cumulative])


def messages_per_connection() -> npt.NDArray[np.int32]:
    """Return messages per connection, int32[habit, 4096] by quantile. Habits: NONE, ONE, FEW (about one), MANY (about two)."""
    table = np.zeros((4, QUANTILES), np.int32)
    table[ONE] = 1
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    for habit, more in _ANOTHER_MESSAGE.items():
        up_to = 1.0 - np.cumprod(np.full(_MAX_MESSAGES, more))
        table[habit] = 1 + np.searchsorted(up_to, at)
    return table
