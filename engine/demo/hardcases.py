"""Legitimate senders of the last day that look like trouble, each one scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.demo.addresses import upper_half
from engine.demo.events import DEFERRED, NEWCOMER, NEWSLETTER
from engine.demo.scenarios import Scene, scene, volley_of
from engine.demo.senders import SENDER
from engine.demo.timeline import HOUR_MS, MINUTE_MS, Month

FIFTH_ISSUE_READERS = 420
FIRST_ISSUE_READERS = 280
_BATCH, _ROUNDS, _EVERY_MINUTES = 40, 24, 5


def set_weekly(title: npt.NDArray[Any], month: Month) -> None:
    """Make this one row of TITLE[] appear on the last day's weekday at 08:00 UTC, so five times in the month."""
    title["weekday"] = month.weekday((month.last_day_ms - month.start_ms) // (24 * HOUR_MS))
    title["at_ms"], title["span_ms"] = 8 * HOUR_MS, 40 * MINUTE_MS
    title["readers"], title["first_day"] = FIFTH_ISSUE_READERS, 0


def fifth_issue(volley: npt.NDArray[Any]) -> Scene:
    """The last of a weekly newsletter's five issues."""
    story = (
        f"A weekly newsletter's fifth issue goes to its usual {FIFTH_ISSUE_READERS} or so readers, at its usual hour."
    )
    return scene("fifth issue", "newsletter", volley, story)


def first_issue(place: npt.NDArray[np.uint64], month: Month) -> Scene:
    """A newsletter nobody here has seen before, from a new address."""
    volley = volley_of(_stranger(place), month, (11, 11.5), FIRST_ISSUE_READERS)
    volley["thins_out"], volley["origin"] = True, NEWSLETTER
    story = (
        f"A new newsletter's first issue, {FIRST_ISSUE_READERS} messages in half an hour, all of them wanted: by volume "
        "alone it looks like a spammer's burst."
    )
    return scene("first issue", "newsletter-first", volley, story)


def moved_server(place: npt.NDArray[np.uint64], month: Month) -> Scene:
    """An office whose server has a new address since this morning."""
    volley = volley_of(_stranger(place), month, (7, 17), 30)
    story = "An office's mail server has a new address and sends 30 messages over a day."
    return scene("moved server", "busy-newcomer", volley, story)


def retry_storm(sender: Any, month: Month) -> Scene:
    """A regular sender's batch that is deferred for two hours, offered again and again, and accepted in the end."""
    minutes = np.arange(_ROUNDS + 1) * _EVERY_MINUTES
    rounds = np.concatenate(
        [volley_of(sender, month, (12 + minute / 60, 12 + (minute + 1) / 60), _BATCH) for minute in minutes]
    )
    rounds["outcome"][:_ROUNDS] = DEFERRED
    story = (
        f"A regular sender's batch of {_BATCH} is deferred for two hours (a full disk on our side), offered again every five "
        "minutes, and then accepted: retries are not demand."
    )
    return scene("retry storm", "retry-storm", rounds, story)


def _stranger(place: npt.NDArray[np.uint64]) -> Any:
    stranger = np.zeros(1, SENDER)
    stranger["high"], stranger["origin"] = upper_half(place, np.zeros(1, np.bool_)), NEWCOMER
    return stranger[0]
