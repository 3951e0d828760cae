"""The simulated month: shape, rhythm and actors."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

import numpy as np
import pytest

from engine.demo.events import (
    ATTACK,
    DEFERRED,
    MTA_NAMES,
    NEWCOMER,
    NEWSLETTER,
    NOISE,
    REGULAR,
    REJECTED,
    SimulatedEvents,
)
from engine.demo.simulate import simulate
from engine.demo.timeline import DAY_MS, DAYS, HOUR_MS, month_until
from topics.keys import IPV4_TAG
from topics.networks import network_text

END_MS = 1_772_668_800_000  # 2026-03-05, so the last day is a Wednesday
SCALE = 0.05


@pytest.fixture(scope="module")
def events() -> SimulatedEvents:
    return simulate(11, END_MS, SCALE)


def _same(a: SimulatedEvents, b: SimulatedEvents) -> bool:
    columns = [[column.tobytes() for column in month[:8]] for month in (a, b)]
    return a.actors == b.actors and columns[0] == columns[1]


def test_seed_determines_the_month(events: SimulatedEvents) -> None:
    assert _same(events, simulate(11, END_MS, SCALE))
    assert not _same(events, simulate(12, END_MS, SCALE))


def test_later_end_moves_the_month() -> None:
    events = simulate(11, END_MS + 3 * DAY_MS, SCALE)
    assert events.ts_ms[0] // DAY_MS == END_MS // DAY_MS + 3 - DAYS
    assert events.ts_ms[-1] // DAY_MS == END_MS // DAY_MS + 2


def test_events_are_in_order_of_time_and_inside_the_month(events: SimulatedEvents) -> None:
    assert (np.diff(events.ts_ms) >= 0).all()
    assert events.ts_ms[0] >= END_MS - DAYS * DAY_MS
    assert events.ts_ms[-1] < END_MS
    assert len(np.unique(events.ts_ms // DAY_MS)) == DAYS


def test_columns_have_their_types_and_one_length(events: SimulatedEvents) -> None:
    kinds = ("int64", "uint64", "uint64", "int32", "uint8", "uint8", "uint8", "uint8")
    assert tuple(column.dtype.name for column in events[:-1]) == kinds
    assert {len(column) for column in events[:-1]} == {len(events.ts_ms)}


def test_values_conform_to_the_event_contract(events: SimulatedEvents) -> None:
    assert events.messages.min() >= 0
    assert events.messages.max() <= 1_000_000
    assert events.outcome.max() <= REJECTED
    assert events.mta.max() < len(MTA_NAMES)
    is_v4 = events.address_high >= np.uint64(IPV4_TAG)
    assert (events.address_low[is_v4] == 0).all()
    assert (events.address_high[~is_v4] >> np.uint64(32) == 0x2001_0DB8).all()


def test_most_connections_carry_one_message_and_are_accepted(events: SimulatedEvents) -> None:
    keys, connections = np.unique(events.address_high, return_counts=True)
    relay = keys[np.argmax(connections)]  # relays carry more, and at this scale one of them is half of all mail
    carried = np.bincount(events.messages[(events.origin != NOISE) & (events.address_high != relay)])
    assert carried[1] > 0.8 * carried.sum()
    assert carried[2:].sum() > 0.05 * carried.sum()
    assert (events.outcome == 0).mean() > 0.9
    assert (events.outcome[events.origin == NOISE] == REJECTED).all()


def test_every_origin_has_a_plausible_share(events: SimulatedEvents) -> None:
    share = np.bincount(events.origin[events.actor == 0], minlength=5) / len(events.ts_ms)
    assert share[REGULAR] > 0.7
    assert 0.005 < share[NEWSLETTER] < 0.15
    assert 0.001 < share[NEWCOMER] < 0.05
    assert 0.005 < share[NOISE] < 0.1
    assert share[ATTACK] == 0


def test_one_in_eight_regulars_uses_ipv6(events: SimulatedEvents) -> None:
    regular = np.unique(events.address_high[events.origin == REGULAR])
    assert 350 < len(regular) < 500
    assert 0.06 < (regular < np.uint64(IPV4_TAG)).mean() < 0.2
    v4 = np.unique(events.address_high[events.address_high >= np.uint64(IPV4_TAG)])
    assert Counter((v4 >> np.uint64(8)).tolist()).most_common(1)[0][1] >= 3


def test_newcomers_begin_every_day_and_nine_of_ten_are_small(events: SimulatedEvents) -> None:
    new = events.origin == NEWCOMER
    keys, first, slot = np.unique(events.address_high[new], return_index=True, return_inverse=True)
    born_ms = events.ts_ms[new][first]
    assert len(np.unique(born_ms // DAY_MS)) == DAYS
    early = events.ts_ms[new] - born_ms[slot] < DAY_MS
    assert np.quantile(np.bincount(slot[early], events.messages[new][early], len(keys)), 0.85) <= 5


def test_noise_is_short_lived(events: SimulatedEvents) -> None:
    noise = events.origin == NOISE
    keys, slot = np.unique(events.address_high[noise & (events.actor == 0)], return_inverse=True)
    ts_ms = events.ts_ms[noise & (events.actor == 0)]
    first, last = np.full(len(keys), END_MS), np.zeros(len(keys), np.int64)
    np.minimum.at(first, slot, ts_ms)
    np.maximum.at(last, slot, ts_ms)
    assert (last - first < 12 * HOUR_MS).all()


def test_mail_has_a_daily_rhythm_and_weekends(events: SimulatedEvents) -> None:
    everyday = events.ts_ms[events.origin == REGULAR]
    by_hour = np.bincount(everyday // HOUR_MS % 24, minlength=24)
    assert by_hour.max() > 1.5 * by_hour.min()
    weekday = (np.arange(DAYS) + everyday[0] // DAY_MS + 3) % 7
    by_day = np.bincount(everyday // DAY_MS - everyday[0] // DAY_MS, minlength=DAYS)
    assert by_day[weekday >= 5].mean() < 0.85 * by_day[weekday < 5].mean()


def test_daily_volume_varies_as_in_real_logs(events: SimulatedEvents) -> None:
    own = (events.origin == REGULAR) & (events.actor == 0)
    keys, slot = np.unique(events.address_high[own], return_inverse=True)
    day = (events.ts_ms[own] - (END_MS - DAYS * DAY_MS)) // DAY_MS
    counts = np.bincount(slot * DAYS + day, minlength=len(keys) * DAYS).reshape(len(keys), DAYS)
    variation = [c[c > 0].std() / c[c > 0].mean() for c in counts if (c > 0).sum() >= 20]
    assert 0.4 < np.median(variation) < 0.9


def test_newsletters_are_weekly(events: SimulatedEvents) -> None:
    number = 1 + next(i for i, actor in enumerate(events.actors) if actor.kind == "newsletter")
    key = events.address_high[events.actor == number][0]
    issues = (events.address_high == key) & (events.origin == NEWSLETTER)
    days, sizes = np.unique(events.ts_ms[issues] // DAY_MS, return_counts=True)
    assert (np.diff(days) == 7).all()
    assert len(days) == 5
    assert sizes.min() > 0.8 * sizes.max()


def test_actors_have_every_kind(events: SimulatedEvents) -> None:
    attackers = {actor.kind for actor in events.actors if actor.attack}
    others = {actor.kind for actor in events.actors if not actor.attack}
    assert attackers == {
        "compromised-sender", "compromised-relay", "new-burst", "new-slow-ramp", "ipv6-rotation", "snowshoe",
        "return-burst", "dictionary",
    }  # fmt: skip
    assert others == {"newsletter", "newsletter-first", "retry-storm", "busy-newcomer"}
    assert all(actor.description.endswith(".") for actor in events.actors)


def test_each_actor_has_its_events_on_the_last_day_in_its_window_and_network(events: SimulatedEvents) -> None:
    assert events.actor.max() == len(events.actors)
    for number, actor in enumerate(events.actors, 1):
        own = events.actor == number
        assert own.sum() >= 30
        assert END_MS - DAY_MS <= actor.start_ms <= events.ts_ms[own].min()
        assert events.ts_ms[own].max() < actor.end_ms <= END_MS
        assert ((events.origin[own] == ATTACK) == actor.attack).all()
        networks = {ip_network(network_text(int(key))) for key in np.unique(events.address_high[own])}
        assert all(network.subnet_of(ip_network(actor.network)) for network in networks)  # type: ignore[arg-type]


def _of(events: SimulatedEvents, kind: str) -> np.ndarray:
    number = 1 + next(i for i, actor in enumerate(events.actors) if actor.kind == kind)
    return np.flatnonzero(events.actor == number)


def test_attacks_have_their_stated_sizes(events: SimulatedEvents) -> None:
    assert events.messages[_of(events, "new-burst")].sum() == 5_000
    rotation = _of(events, "ipv6-rotation")
    assert events.messages[rotation].sum() == 1_500
    assert len(np.unique(events.address_low[rotation])) == 750
    snowshoe = np.unique(events.address_high[_of(events, "snowshoe")], return_counts=True)[1]
    assert snowshoe.tolist() == [30] * 64


@pytest.mark.parametrize(
    "kind", ["new-burst", "new-slow-ramp", "ipv6-rotation", "snowshoe", "dictionary", "newsletter-first"]
)
def test_new_senders_have_no_earlier_events(events: SimulatedEvents, kind: str) -> None:
    own = _of(events, kind)
    assert (events.actor[np.isin(events.address_high, events.address_high[own])] > 0).all()


@pytest.mark.parametrize("kind", ["compromised-sender", "compromised-relay", "retry-storm"])
def test_compromised_and_deferred_senders_have_weeks_of_history(events: SimulatedEvents, kind: str) -> None:
    past = (events.address_high == events.address_high[_of(events, kind)[0]]) & (events.actor == 0)
    assert len(np.unique(events.ts_ms[past] // DAY_MS)) >= 20


def test_returning_address_has_twelve_days_then_a_gap_of_two_weeks(events: SimulatedEvents) -> None:
    own = _of(events, "return-burst")
    past = (events.address_high == events.address_high[own[0]]) & (events.actor == 0)
    assert len(np.unique(events.ts_ms[past] // DAY_MS)) == 12
    assert events.ts_ms[own[0]] - events.ts_ms[past].max() > 14 * DAY_MS


def test_retry_storm_is_deferred_until_its_last_batch(events: SimulatedEvents) -> None:
    outcome = events.outcome[_of(events, "retry-storm")]
    assert (outcome[:-40] == DEFERRED).all()
    assert (outcome[-40:] == 0).all()


def test_scale_changes_the_number_of_senders(events: SimulatedEvents) -> None:
    twice = simulate(11, END_MS, 2 * SCALE)
    for origin in (NEWCOMER, NOISE):
        few, more = (len(np.unique(month.address_high[month.origin == origin])) for month in (events, twice))
        assert more == pytest.approx(2 * few, rel=0.15)
    assert [actor.kind for actor in twice.actors] == [actor.kind for actor in events.actors]


def test_smallest_scale_has_all_actors() -> None:
    events = simulate(3, END_MS, 0.01)
    assert set(events.actor[events.actor > 0].tolist()) == set(range(1, len(events.actors) + 1))


@pytest.mark.parametrize("scale", [0.0, -1.0, 6.0, float("nan"), float("inf")])
def test_scale_out_of_range_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        simulate(1, END_MS, scale)


@pytest.mark.parametrize("end_ms", [END_MS + 1, 0, -DAY_MS, 1 << 60])
def test_end_that_is_no_midnight_is_refused(end_ms: int) -> None:
    with pytest.raises(ValueError, match="midnight"):
        simulate(1, end_ms, SCALE)


def test_weekdays_equal_the_calendar() -> None:
    assert month_until(END_MS).weekday(DAYS - 1) == 2
