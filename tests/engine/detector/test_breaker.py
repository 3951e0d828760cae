"""The fleet guard: rules gone wrong trip it within seconds, and hardly anybody else does; its bounds."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from engine.analysis.collateral import Collateral, ThrottlePeriod
from engine.analysis.explanation import explain, in_lines
from engine.analysis.simulated_edge import SimulatedEdge
from engine.cli.replay import report_breaker
from engine.config.load import load_settings
from engine.demo.events import NEWSLETTER, REGULAR
from engine.demo.simulate import simulate
from engine.detector.breaker import allowed_share
from engine.detector.constants import BREAKER_WINDOW_MS, BREAKER_REARM_MS, PROBATION_DAYS
from engine.detector.layout import THROTTLED
from engine.detector.throttle import Policy
from engine.detector.verdict import RELEASE, THROTTLE
from engine.pipeline import build
from engine.state.partition import Partition
from engine.worker.apply import log_breaker
from tests.support.sequences import DAY_MS, HOUR_MS, WINDOW_MS, Event, columns_of, far_apart
from topics.columns.scan import ACCEPTED, READY, EventColumns, empty_columns
from topics.networks import network_text

SETTINGS = load_settings(None, {}, {"topics.partitions": 1})
END_MS = 1_764_547_200_000
MONDAY_MS = 1_767_571_200_000
DAYS = 6
NOON_MS = MONDAY_MS + DAYS * DAY_MS + 12 * HOUR_MS
CAP = 0.1
Mail = tuple[int, int, int]


class Replayed(NamedTuple):
    """A partition after its limits have gone wrong: the verdicts before and since, the events since, whose mail is regular."""

    partition: Partition
    before: npt.NDArray[Any]
    since: npt.NDArray[Any]
    events: EventColumns
    regular: npt.NDArray[np.bool_]
    listed: npt.NDArray[np.uint64]
    fault_ms: int


def divide_limits(partition: Partition) -> None:
    """All limits by 100. A known sender's go with its memory and the fourth root of T, a newcomer's with T."""
    rows = partition.state.rows[: partition.keys]
    known = rows["active_days"] > PROBATION_DAYS
    rows["memory"][known] *= np.float32(100**-0.75)
    rows["memory"][~known] /= 100
    partition.reconfigure(partition.policy._replace(threshold=partition.policy.threshold / 100))


@pytest.fixture(scope="module")
def replayed() -> Replayed:
    """The simulated month; on its last day, under attack, at 11:00 all limits go to a hundredth. Then an hour more."""
    month = simulate(5, END_MS)
    columns = empty_columns(len(month.ts_ms))
    for name in ("ts_ms", "messages", "outcome"):
        getattr(columns, name)[:] = getattr(month, name)
    columns.key[:], columns.record_ms[:], columns.status[:] = month.address_high, month.ts_ms, READY
    columns.offset[:] = np.arange(len(month.ts_ms))
    fault_ms = END_MS - 13 * HOUR_MS
    first, last = np.searchsorted(month.ts_ms, [fault_ms, fault_ms + HOUR_MS]).tolist()
    partition = build.partition(SETTINGS, 0)
    before = partition.apply(columns, 0, first)
    rows = partition.state.rows[: partition.keys].copy()
    listed = rows["key"][rows["flags"] & THROTTLED > 0]
    known = rows["key"][rows["active_days"] > PROBATION_DAYS]
    assert partition.breaker_trips == 0
    divide_limits(partition)
    since = partition.apply(columns, first, last)
    events = EventColumns._make(column[first:last] for column in columns)
    regular = np.isin(month.origin[first:last], [REGULAR, NEWSLETTER]) & np.isin(events.key, known)
    return Replayed(partition, before, since, events, regular & (events.outcome == ACCEPTED), listed, fault_ms)


def test_a_hundredth_of_all_limits_trips_the_guard_within_ten_seconds(replayed: Replayed) -> None:
    assert replayed.fault_ms <= replayed.partition.state.site["breaker_tripped_ms"][0] <= replayed.fault_ms + 10_000
    assert replayed.partition.breaker_tripped_ms is not None


def test_what_is_deferred_of_known_senders_is_back_within_budget_within_thirty(replayed: Replayed) -> None:
    composer = build.composer(SETTINGS)
    verdicts = np.concatenate([replayed.before[replayed.before["until_ms"] > replayed.fault_ms], replayed.since])
    edge = SimulatedEdge()
    edge.add(composer.decision(verdict, 0) for verdict in verdicts)
    deferred = edge.deferred(replayed.events)
    later = replayed.regular & (replayed.events.ts_ms >= replayed.fault_ms + 30_000)
    assert replayed.events.messages[later].sum() > 5_000
    assert deferred[later].sum() <= 0.005 * replayed.events.messages[later].sum()
    released = replayed.since["key"][replayed.since["kind"] == RELEASE]
    throttled = replayed.since[(replayed.since["kind"] == THROTTLE) & (replayed.since["active_days"] > PROBATION_DAYS)]
    assert len(throttled) > 6
    assert np.isin(throttled["key"], np.concatenate([released, replayed.listed])).all()


def test_attackers_that_were_listed_before_stay_listed_until_their_decisions_lapse(replayed: Replayed) -> None:
    assert len(replayed.listed) > 30
    releases = replayed.since[replayed.since["kind"] == RELEASE]
    own = releases[np.isin(releases["key"], replayed.listed)]
    assert (own["until_ms"] <= own["issued_ms"]).all()
    early = releases[releases["until_ms"] > releases["issued_ms"]]
    assert len(early) == replayed.partition.breaker_withdrawn >= 6


def test_nobody_is_throttled_while_the_guard_is_open(replayed: Replayed) -> None:
    throttles = replayed.since[replayed.since["kind"] == THROTTLE]
    assert throttles["issued_ms"].max() <= replayed.partition.state.site["breaker_tripped_ms"][0]
    assert replayed.partition.state.site["suppressed"][0] > 200


def everyday(senders: int) -> list[Mail]:
    """So many senders of 20 messages a day, for `DAYS` days."""
    return [
        (MONDAY_MS + day * DAY_MS + hour * HOUR_MS + 1000 * sender, far_apart(sender), 2)
        for day in range(DAYS)
        for hour in range(8, 18)
        for sender in range(senders)
    ]


def site(guard: float = CAP) -> Partition:
    return Partition(Policy(1.0, WINDOW_MS, 0, 1, breaker_share=guard), 1 << 14)


def burst(senders: Iterable[int], at_ms: int = NOON_MS, gap_ms: int = 0) -> list[Mail]:
    return [(at_ms + i * gap_ms, far_apart(sender), 3000) for i, sender in enumerate(senders)]


def after(mails: list[Mail], guard: float = CAP) -> Partition:
    """A site after these mails, in order of time."""
    partition = site(guard)
    run(partition, mails)
    return partition


def run(partition: Partition, mails: list[Mail]) -> npt.NDArray[Any]:
    first = partition.applied_offset + 1
    events = [
        Event(first + i, t_ms, -1, key, messages, ACCEPTED) for i, (t_ms, key, messages) in enumerate(sorted(mails))
    ]
    return partition.apply(columns_of(events), 0, len(events))


def trips(mails: list[Mail]) -> int:
    return after(mails).trips


def test_one_compromised_sender_trips_nothing_however_loud_it_is() -> None:
    noise = [(NOON_MS + i * 1000, far_apart(3), 1000) for i in range(40_000)]
    assert trips(everyday(10) + noise) == 0


def test_newcomers_trip_nothing_however_many_they_are() -> None:
    assert trips(everyday(10) + [(NOON_MS + i, far_apart(10_000 + i), 500) for i in range(5000)]) == 0


@pytest.mark.parametrize(("hosts", "found"), [(5, 0), (6, 1)])
def test_six_known_hosts_at_least_must_be_compromised_on_a_site_that_is_asleep(hosts: int, found: int) -> None:
    assert trips(everyday(10) + burst(range(hosts))) == found


@pytest.mark.parametrize(("hosts", "found"), [(15, 0), (16, 1)])
def test_and_a_tenth_of_the_known_senders_that_are_awake(hosts: int, found: int) -> None:
    """A hundred others have sent in the half minute before, all attackers come in one instant."""
    awake = [(NOON_MS - BREAKER_WINDOW_MS + 100 * i, far_apart(100 + i), 1) for i in range(100)]
    assert trips(everyday(200) + awake + burst(range(hosts))) == found


def test_six_in_more_than_an_hour_are_none() -> None:
    assert trips(everyday(10) + burst(range(7), gap_ms=13 * 60_000)) == 0
    assert trips(everyday(10) + burst(range(7), gap_ms=9 * 60_000)) == 1


def test_the_same_few_hosts_over_and_over_trip_nothing() -> None:
    """Each time as its throttle has lapsed."""
    again = [mail for hour in range(0, 240, 30) for mail in burst(range(5), NOON_MS + hour * HOUR_MS)]
    assert trips(everyday(10) + again) == 0


def test_without_a_guard_nothing_trips_and_one_that_is_switched_off_lets_go_at_once() -> None:
    mails = everyday(10) + burst(range(6))
    assert after(mails, 0.0).trips == 0
    partition = after(mails)
    assert partition.breaker_tripped_ms == NOON_MS
    partition.reconfigure(partition.policy._replace(breaker_share=0.0))
    verdicts = run(partition, burst([7], NOON_MS + 1000))
    assert [partition.breaker_tripped_ms, THROTTLE in verdicts["kind"]] == [None, True]


def test_an_open_guard_takes_back_what_it_took_for_an_error_and_is_armed_again_after_ten_minutes() -> None:
    partition = after(everyday(10) + burst(range(6), NOON_MS - 5, 1))
    taken_back = run(partition, [(NOON_MS + 1000, far_apart(8), 1)])
    assert taken_back["key"].tolist() == [far_apart(sender) for sender in reversed(range(5))]
    assert (taken_back["kind"] == RELEASE).all()
    assert not len(run(partition, burst([7], NOON_MS + BREAKER_REARM_MS - 1)))
    assert partition.breaker_tripped_ms == NOON_MS
    again = run(partition, burst([9], NOON_MS + BREAKER_REARM_MS))
    assert [partition.breaker_tripped_ms, again["kind"].tolist()] == [None, [THROTTLE]]


def test_it_stays_open_as_long_as_seven_would_be_throttled_and_trips_again_when_they_come_back() -> None:
    """Six, and a tenth of all that are awake."""
    partition = after(everyday(10) + burst(range(6), NOON_MS - 5, 1))
    for minutes in range(5, 45, 10):
        assert not (run(partition, burst(range(8), NOON_MS + minutes * 60_000))["kind"] == THROTTLE).any()
        assert partition.breaker_tripped_ms == NOON_MS
    later_ms = NOON_MS + 2 * HOUR_MS
    run(partition, [(later_ms, far_apart(8), 1)])
    assert partition.breaker_tripped_ms is None
    assert (run(partition, burst(range(6), later_ms + 1000))["kind"] == THROTTLE).sum() == 5
    assert [partition.breaker_trips, partition.breaker_tripped_ms] == [2, later_ms + 1000]


def test_a_decision_in_force_is_not_extended_while_the_guard_is_open_and_made_anew_afterwards() -> None:
    partition = site()
    listed = far_apart(9)
    first = run(partition, [*everyday(10), (NOON_MS - 20 * HOUR_MS, listed, 3000)])
    until_ms = int(first[(first["key"] == listed) & (first["kind"] == THROTTLE)]["until_ms"][0])
    since = run(partition, [*burst(range(6), until_ms - 60_000), (until_ms - 30_000, listed, 3000)])
    assert listed not in since["key"].tolist()
    lapsed = run(partition, [(until_ms, far_apart(8), 1)])
    assert (listed, RELEASE) in zip(lapsed["key"].tolist(), lapsed["kind"].tolist(), strict=True)
    again = run(partition, [(until_ms + BREAKER_REARM_MS, listed, 3000)])
    assert (again["key"].tolist(), again["kind"].tolist()) == ([listed], [THROTTLE])


@pytest.mark.parametrize(("percent", "share"), [(0.1, 0.02), (0.5, 0.1), (1.0, 0.2), (10.0, 0.5)])
def test_the_share_follows_the_budget_up_to_a_half(percent: float, share: float) -> None:
    assert allowed_share(percent) == pytest.approx(share)
    chosen = load_settings(None, {}, {"model.sensitivity": f"{percent:g}"})
    assert build.policy(chosen, 0).guard == allowed_share(percent)
    assert build.policy(load_settings(None, {}, {"model.guard": "off"}), 0).guard == 0
    assert chosen.config_hash() != load_settings(None, {}, {"model.guard": "off"}).config_hash()


def test_whoever_asks_is_told(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    partition = after([*everyday(10), *burst(range(6)), (NOON_MS + 1000, far_apart(8), 1)])
    with caplog.at_level(logging.WARNING):
        log_breaker(partition, 0, None)
    assert ["the guard tripped" in record.getMessage() for record in caplog.records] == [True]
    report_breaker([partition])
    assert "tripped 1 times" in capsys.readouterr().err
    lines = "\n".join(in_lines(explain(partition, far_apart(8), NOON_MS + 1000, [], "sha256:0")))
    assert "Circuit breaker: open since 2026-01-11 12:00:00 UTC" in lines
    run(partition, [(NOON_MS + BREAKER_REARM_MS, far_apart(8), 1)])
    with caplog.at_level(logging.WARNING):
        log_breaker(partition, 1, NOON_MS)
    assert "armed again" in caplog.messages[-1]
    assert "Circuit breaker" not in "\n".join(
        in_lines(explain(partition, far_apart(8), NOON_MS + BREAKER_REARM_MS, [], "sha256:0"))
    )


def test_a_spell_ends_where_it_was_taken_back() -> None:
    partition, collateral, composer = site(), Collateral(), build.composer(SETTINGS)
    mails = [*everyday(10), *burst(range(6)), (NOON_MS + 1000, far_apart(8), 1)]
    collateral.add_decisions([composer.decision(verdict, 0) for verdict in run(partition, mails)])
    assert collateral.throttle_periods[network_text(far_apart(0))] == [ThrottlePeriod(NOON_MS, NOON_MS + 1000)]
