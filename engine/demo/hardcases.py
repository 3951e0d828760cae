"""Legitimate senders of the last day that look like attackers, one scenario each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.demo.addresses import upper_half
from engine.demo.events import DEFERRED, NEWCOMER, NEWSLETTER
from engine.demo.scenarios import Scenario, scenario, sender_burst
from engine.demo.senders import SENDER
from engine.demo.timeline import HOUR_MS, MINUTE_MS, Month

FIFTH_ISSUE_READERS = 420
FIRST_ISSUE_READERS = 280
_BATCH, _ROUNDS, _EVERY_MINUTES = 40, 24, 5


def set_weekly(title: npt.NDArray[Any], month: Month) -> None:
    """Schedule one row of TITLE[] on the last day's weekday at 08:00 UTC, so it has five issues in the month."""
    title["weekday"] = month.weekday((month.last_day_ms - month.start_ms) // (24 * HOUR_MS))
    title["at_ms"], title["span_ms"] = 8 * HOUR_MS, 40 * MINUTE_MS
    title["readers"], title["first_day"] = FIFTH_ISSUE_READERS, 0


def fifth_issue(burst: npt.NDArray[Any]) -> Scenario:
    """Return the last of a weekly newsletter's five issues."""
    description = (
        f"A weekly newsletter's fifth issue goes to its usual {FIFTH_ISSUE_READERS} or so readers at its usual hour."
    )
    return scenario("fifth issue", "newsletter", burst, description)


def first_issue(slot: npt.NDArray[np.uint64], month: Month) -> Scenario:
    """Return a newsletter's first issue, from a new address."""
    burst = sender_burst(_new_sender(slot), month, (11, 11.5), FIRST_ISSUE_READERS)
    burst["thins_out"], burst["origin"] = True, NEWSLETTER
    description = (
        f"A new newsletter's first issue, {FIRST_ISSUE_READERS} messages in half an hour, all of them wanted: by volume "
        "alone it looks like a spammer's burst."
    )
    return scenario("first issue", "newsletter-first", burst, description)


def moved_server(slot: npt.NDArray[np.uint64], month: Month) -> Scenario:
    """Return an office whose server has had a new address since this morning."""
    burst = sender_burst(_new_sender(slot), month, (7, 17), 30)
    description = "An office's mail server has a new address and sends 30 messages over a day."
    return scenario("moved server", "busy-newcomer", burst, description)


def retry_storm(sender: Any, month: Month) -> Scenario:
    """Return a regular sender's batch that is deferred for two hours, retried repeatedly and finally accepted."""
    minutes = np.arange(_ROUNDS + 1) * _EVERY_MINUTES
    rounds = np.concatenate(
        [sender_burst(sender, month, (12 + minute / 60, 12 + (minute + 1) / 60), _BATCH) for minute in minutes]
    )
    rounds["outcome"][:_ROUNDS] = DEFERRED
    description = (
        f"A regular sender's batch of {_BATCH} is deferred for two hours (a full disk on our side), retried every five "
        "minutes, and then accepted: retries are not demand."
    )
    return scenario("retry storm", "retry-storm", rounds, description)


def _new_sender(slot: npt.NDArray[np.uint64]) -> Any:
    sender = np.zeros(1, SENDER)
    sender["high"], sender["origin"] = upper_half(slot, np.zeros(1, np.bool_)), NEWCOMER
    return sender[0]
