"""The budget, learning and what may be held back of one sender: bounds that nobody outside can move."""

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
    """Events of (time, key, messages, outcome), in order of time."""
    return [Event(i, t, -1, key, n, outcome) for i, (t, key, n, outcome) in enumerate(sorted(mails))]


def everyday(days: int, senders: int = 40) -> list[tuple[int, int, int, int]]:
    """Senders of 20 messages a day each, spread over ten hours, and a newcomer an hour."""
    mails = [
        (MONDAY_MS + day * DAY_MS + hour * HOUR_MS + sender, far_apart(sender), 2, ACCEPTED)
        for day in range(days)
        for hour in range(8, 18)
        for sender in range(senders)
    ]
    fresh = [(MONDAY_MS + hour * HOUR_MS, far_apart(1000 + hour), 1, ACCEPTED) for hour in range(days * 24)]
    return mails + fresh


def leans(partition: Partition, mails: list[tuple[int, int, int, int]], days: int) -> list[float]:
    """T at the end of each day."""
    events, found = numbered(mails), []
    columns = columns_of(events)
    ends = np.searchsorted(columns.ts_ms, MONDAY_MS + DAY_MS * np.arange(1, days + 1))
    for first, last in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        partition.apply(columns, first, last)
        found.append(partition.threshold)
    return found


def test_a_site_without_throttles_becomes_a_little_stricter_and_no_more_than_fourfold() -> None:
    found = leans(site(), everyday(30, 20), 30)
    assert all(later >= earlier * math.exp(-0.03) * (1 - 1e-9) for earlier, later in pairwise(found))
    assert 0.25 <= found[-1] < 1


def test_compromised_senders_move_the_threshold_by_three_percent_a_day_and_never_beyond_four() -> None:
    """Half of all known senders send a thousandfold every other day for two months."""
    mails = everyday(75)
    attack = [
        (MONDAY_MS + day * DAY_MS + 12 * HOUR_MS + i, far_apart(sender), 200, ACCEPTED)
        for day in range(15, 75, 2)
        for sender in range(20)
        for i in range(100)
    ]
    calm, driven = leans(site(), mails, 75), leans(site(), mails + attack, 75)
    assert driven[-1] > calm[-1]
    assert max(driven) <= 4
    assert all(later <= earlier * math.exp(0.03) * (1 + 1e-9) for earlier, later in pairwise(driven))


def test_one_compromised_sender_books_no_more_than_a_busy_hour_a_day() -> None:
    quiet, hit = site(), site()
    burst = [(MONDAY_MS + 20 * DAY_MS + i, far_apart(3), 1000, ACCEPTED) for i in range(1000)]
    leans(quiet, everyday(25), 25)
    leans(hit, everyday(25) + burst, 25)
    booked = float(hit.state.site["booked"][0] - quiet.state.site["booked"][0])
    assert 0 < booked <= 21


def test_retries_that_an_edge_reports_count_as_held_back() -> None:
    partition = site()
    retries = [(MONDAY_MS + 10 * DAY_MS + 12 * HOUR_MS + i, far_apart(3), 1, DEFERRED) for i in range(1, 9)]
    burst = [(MONDAY_MS + 10 * DAY_MS + 12 * HOUR_MS, far_apart(3), 400, ACCEPTED)]
    leans(partition, everyday(10) + burst, 11)
    before = float(partition.state.site["day_held"][0])
    events = numbered(everyday(10) + burst + retries)
    other = site()
    other.apply(columns_of(events), 0, len(events))
    assert float(other.state.site["day_held"][0]) == before + 8


def test_a_new_site_watches_until_its_newcomers_are_known_and_a_day_would_have_been_within_budget() -> None:
    partition = site(learning_days=7)
    columns = columns_of(numbered(everyday(5)))
    verdicts = partition.apply(columns, 0, len(columns.offset))
    assert not len(verdicts)
    assert partition.decides
    assert int(partition.state.site["decides_from"][0]) in (MONDAY_MS // DAY_MS + 2, MONDAY_MS // DAY_MS + 3)


def test_a_site_whose_days_would_not_have_been_within_budget_watches_to_the_end() -> None:
    noisy = [
        (MONDAY_MS + day * DAY_MS + hour * HOUR_MS, far_apart(5000 + 24 * day + hour), 500, ACCEPTED)
        for day in range(2, 8)
        for hour in range(24)
    ]
    partition = site(learning_days=7)
    events = numbered(everyday(6) + [mail for mail in noisy if mail[0] < MONDAY_MS + 6 * DAY_MS])
    assert not len(partition.apply(columns_of(events), 0, len(events)))
    assert (partition.decides, int(partition.state.site["shadows"][0]) > 50) == (False, True)
    assert int(partition.state.site["decides_from"][0]) == FAR_DAY
    whole = site(learning_days=7)
    events = numbered(everyday(8) + noisy)
    verdicts = whole.apply(columns_of(events), 0, len(events))
    assert verdicts["issued_ms"].min() >= MONDAY_MS + 7 * DAY_MS


def test_a_site_that_is_off_only_counts() -> None:
    partition = site(decides=False)
    events = numbered([*everyday(3), (MONDAY_MS, IPV4_TAG, 100_000, ACCEPTED)])
    assert not len(partition.apply(columns_of(events), 0, len(events)))
    assert int(partition.state.site["shadows"][0]) > 0
    assert not partition.decides


def relay(days: int, record: int) -> list[tuple[int, int, int, int]]:
    """A relay of 10,000 a day; on its last day it sends ``record`` more within two hours from noon on."""
    usual = [
        (MONDAY_MS + day * DAY_MS + minute * 60_000, IPV4_TAG, 10, ACCEPTED)
        for day in range(days)
        for minute in range(1440)
        if minute % 1440 < 1000
    ]
    start_ms = MONDAY_MS + (days - 1) * DAY_MS + 12 * HOUR_MS
    return usual + [(start_ms + i * 30_000 + 1, IPV4_TAG, record // 240, ACCEPTED) for i in range(240)]


def first_rate(days: int, record: int) -> float:
    events = numbered(relay(days, record))
    verdicts = site(learning_days=2).apply(columns_of(events), 0, len(events))
    throttles = verdicts[verdicts["kind"] == THROTTLE]
    return float(throttles["rate_per_h"][0])


def test_an_established_relays_first_record_goes_on_at_its_hourly_limit() -> None:
    """After two months, and not after three weeks: then what it usually sends in an hour is all that goes on."""
    assert first_rate(60, 12_000) > 3 * 600
    assert first_rate(20, 12_000) < 1.5 * 600


@pytest.mark.parametrize("record", [200_000, 2_000_000])
def test_three_best_days_may_be_held_back_of_an_established_relay_in_a_day(record: int) -> None:
    """The excess is far too much to be spared; then it goes on at the hourly limit all the same."""
    events = numbered(relay(60, record))
    verdicts = site(learning_days=2).apply(columns_of(events), 0, len(events))
    rates = verdicts[verdicts["kind"] == THROTTLE]["rate_per_h"].tolist()
    assert min(rates) < 1.5 * 600
    assert rates[-1] > 3 * 600
