"""The budget, learning and the cap on one sender: bounds that attackers can't move."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from engine.detector.constants import FAR_DAY
from engine.detector.throttle import Policy
from engine.detector.verdict import THROTTLE
from engine.state.partition import Partition
from tests.support.sequences import DAY_MS, HOUR_MS, IPV4_TAG, WINDOW_MS, Event, columns_of, far_apart
from topics.columns.scan import ACCEPTED, DEFERRED

MONDAY_MS = 1_767_571_200_000


def site(learning_days: int = 0, decides: bool = True) -> Partition:
    return Partition(Policy(1.0, WINDOW_MS, 0, 1, learning_ms=learning_days * DAY_MS, decides=decides), 4096)


def numbered(mails: list[tuple[int, int, int, int]]) -> list[Event]:
    """Return events of (time, key, messages, outcome) in order of time."""
    return [Event(i, t, -1, key, n, outcome) for i, (t, key, n, outcome) in enumerate(sorted(mails))]


def everyday(days: int, senders: int = 40) -> list[tuple[int, int, int, int]]:
    """Return mail of senders of 20 messages a day each, spread over ten hours, and of one newcomer an hour."""
    mails = [
        (MONDAY_MS + day * DAY_MS + hour * HOUR_MS + sender, far_apart(sender), 2, ACCEPTED)
        for day in range(days)
        for hour in range(8, 18)
        for sender in range(senders)
    ]
    fresh = [(MONDAY_MS + hour * HOUR_MS, far_apart(1000 + hour), 1, ACCEPTED) for hour in range(days * 24)]
    return mails + fresh


def thresholds(partition: Partition, mails: list[tuple[int, int, int, int]], days: int) -> list[float]:
    """Apply the mails. Return T at the end of each day."""
    events, result = numbered(mails), []
    columns = columns_of(events)
    ends = np.searchsorted(columns.ts_ms, MONDAY_MS + DAY_MS * np.arange(1, days + 1))
    for first, last in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        partition.apply(columns, first, last)
        result.append(partition.threshold)
    return result


def test_site_without_throttles_becomes_stricter_by_three_percent_a_day_at_most() -> None:
    daily = thresholds(site(), everyday(30, 20), 30)

    assert all(later >= earlier * math.exp(-0.03) * (1 - 1e-9) for earlier, later in pairwise(daily))
    assert 0.25 <= daily[-1] < 1


def test_compromised_senders_raise_the_threshold_by_three_percent_a_day_up_to_four() -> None:
    """Half of all known senders send 1,000 times their usual mail every other day for two months."""
    mails = everyday(75)
    attack = [
        (MONDAY_MS + day * DAY_MS + 12 * HOUR_MS + i, far_apart(sender), 200, ACCEPTED)
        for day in range(15, 75, 2)
        for sender in range(20)
        for i in range(100)
    ]

    calm, driven = thresholds(site(), mails, 75), thresholds(site(), mails + attack, 75)

    assert driven[-1] > calm[-1]
    assert max(driven) <= 4
    assert all(later <= earlier * math.exp(0.03) * (1 + 1e-9) for earlier, later in pairwise(driven))


def test_one_compromised_sender_is_charged_at_most_a_busy_hour_a_day() -> None:
    quiet, hit = site(), site()
    burst = [(MONDAY_MS + 20 * DAY_MS + i, far_apart(3), 1000, ACCEPTED) for i in range(1000)]
    thresholds(quiet, everyday(25), 25)
    thresholds(hit, everyday(25) + burst, 25)

    charged = float(hit.state.site["budget_charged"][0] - quiet.state.site["budget_charged"][0])

    assert 0 < charged <= 21


def test_retries_reported_by_an_edge_count_as_deferred() -> None:
    partition = site()
    retries = [(MONDAY_MS + 10 * DAY_MS + 12 * HOUR_MS + i, far_apart(3), 1, DEFERRED) for i in range(1, 9)]
    burst = [(MONDAY_MS + 10 * DAY_MS + 12 * HOUR_MS, far_apart(3), 400, ACCEPTED)]
    thresholds(partition, everyday(10) + burst, 11)
    before = float(partition.state.site["budget_day_deferred"][0])
    events = numbered(everyday(10) + burst + retries)
    other = site()

    other.apply(columns_of(events), 0, len(events))

    assert float(other.state.site["budget_day_deferred"][0]) == before + 8


def test_new_site_decides_once_its_cohort_is_credible_and_a_day_is_within_budget() -> None:
    partition = site(learning_days=7)
    columns = columns_of(numbered(everyday(5)))

    verdicts = partition.apply(columns, 0, len(columns.offset))

    assert not len(verdicts)
    assert partition.decides
    assert int(partition.state.site["decides_from"][0]) in (MONDAY_MS // DAY_MS + 2, MONDAY_MS // DAY_MS + 3)


def test_new_site_with_days_above_budget_learns_for_the_whole_period() -> None:
    noisy = [
        (MONDAY_MS + day * DAY_MS + hour * HOUR_MS, far_apart(5000 + 24 * day + hour), 500, ACCEPTED)
        for day in range(2, 8)
        for hour in range(24)
    ]
    partition = site(learning_days=7)

    events = numbered(everyday(6) + [mail for mail in noisy if mail[0] < MONDAY_MS + 6 * DAY_MS])

    assert not len(partition.apply(columns_of(events), 0, len(events)))
    assert (partition.decides, int(partition.state.site["suppressed"][0]) > 50) == (False, True)
    assert int(partition.state.site["decides_from"][0]) == FAR_DAY

    whole = site(learning_days=7)
    events = numbered(everyday(8) + noisy)
    verdicts = whole.apply(columns_of(events), 0, len(events))

    assert verdicts["issued_ms"].min() >= MONDAY_MS + 7 * DAY_MS


def test_site_that_only_watches_publishes_nothing() -> None:
    partition = site(decides=False)

    events = numbered([*everyday(3), (MONDAY_MS, IPV4_TAG, 100_000, ACCEPTED)])

    assert not len(partition.apply(columns_of(events), 0, len(events)))
    assert int(partition.state.site["suppressed"][0]) > 0
    assert not partition.decides


def relay(days: int, record: int) -> list[tuple[int, int, int, int]]:
    """Return mail of a relay of 10,000 a day that sends `record` more within two hours of its last day, from noon on."""
    usual = [
        (MONDAY_MS + day * DAY_MS + minute * 60_000, IPV4_TAG, 10, ACCEPTED)
        for day in range(days)
        for minute in range(1440)
        if minute % 1440 < 1000
    ]
    start_ms = MONDAY_MS + (days - 1) * DAY_MS + 12 * HOUR_MS
    return usual + [(start_ms + i * 30_000 + 1, IPV4_TAG, record // 240, ACCEPTED) for i in range(240)]


def first_rate(days: int, record: int) -> float:
    """Return the rate of the relay's first throttle."""
    events = numbered(relay(days, record))
    verdicts = site(learning_days=2).apply(columns_of(events), 0, len(events))
    throttles = verdicts[verdicts["kind"] == THROTTLE]
    return float(throttles["rate_per_h"][0])


def test_first_excess_of_an_established_relay_continues_at_its_hourly_limit() -> None:
    """After two months; after three weeks only its usual hour continues."""
    assert first_rate(60, 12_000) > 3 * 600
    assert first_rate(20, 12_000) < 1.5 * 600


@pytest.mark.parametrize("record", [200_000, 2_000_000])
def test_established_relay_continues_at_its_hourly_limit_once_the_cap_is_deferred(record: int) -> None:
    """The excess is far from mild, so it is throttled to the usual hour until five best days were deferred."""
    events = numbered(relay(60, record))
    verdicts = site(learning_days=2).apply(columns_of(events), 0, len(events))

    rates = verdicts[verdicts["kind"] == THROTTLE]["rate_per_h"].tolist()

    assert min(rates) < 1.5 * 600
    assert rates[-1] > 3 * 600
