"""The circuit breaker: wrong limits trip it within seconds, hardly anything else does; its bounds."""

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
from engine.detector.constants import BREAKER_REARM_MS, BREAKER_WINDOW_MS, PROBATION_DAYS
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
SHARE = 0.1
Mail = tuple[int, int, int]  # time, sender, messages


class Replayed(NamedTuple):
    """A partition whose limits went wrong."""

    partition: Partition
    before: npt.NDArray[Any]  # verdicts before that,
    since: npt.NDArray[Any]  # and since then
    events: EventColumns  # since then
    regular: npt.NDArray[np.bool_]  # those of them that are regular mail of known senders
    listed: npt.NDArray[np.uint64]  # senders throttled before that
    fault_ms: int


def divide_limits(partition: Partition) -> None:
    """Divide all limits by 100: a known sender's scale with its baseline and the fourth root of T, a newcomer's with T."""
    rows = partition.state.rows[: partition.keys]
    known = rows["active_days"] > PROBATION_DAYS
    rows["memory"][known] *= np.float32(100**-0.75)
    rows["memory"][~known] /= 100
    partition.reconfigure(partition.policy._replace(threshold=partition.policy.threshold / 100))


@pytest.fixture(scope="module")
def replayed() -> Replayed:
    """Run the simulated month to 11:00 of its last day, under attack; divide all limits by 100; run one more hour."""
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


def test_limits_divided_by_100_trip_the_breaker_within_ten_seconds(replayed: Replayed) -> None:
    assert replayed.fault_ms <= replayed.partition.state.site["breaker_tripped_ms"][0] <= replayed.fault_ms + 10_000
    assert replayed.partition.breaker_tripped_ms is not None


def test_deferred_mail_of_known_senders_is_within_budget_after_thirty_seconds(replayed: Replayed) -> None:
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


def test_throttles_from_before_the_fault_stay_until_they_expire(replayed: Replayed) -> None:
    assert len(replayed.listed) > 30

    releases = replayed.since[replayed.since["kind"] == RELEASE]
    own = releases[np.isin(releases["key"], replayed.listed)]

    assert (own["until_ms"] <= own["issued_ms"]).all()

    early = releases[releases["until_ms"] > releases["issued_ms"]]

    assert len(early) == replayed.partition.breaker_withdrawn >= 6


def test_open_breaker_suppresses_all_throttles(replayed: Replayed) -> None:
    throttles = replayed.since[replayed.since["kind"] == THROTTLE]

    assert throttles["issued_ms"].max() <= replayed.partition.state.site["breaker_tripped_ms"][0]
    assert replayed.partition.state.site["suppressed"][0] > 200


def everyday(senders: int) -> list[Mail]:
    """Return the mail of `senders` senders of 20 messages a day, for `DAYS` days."""
    return [
        (MONDAY_MS + day * DAY_MS + hour * HOUR_MS + 1000 * sender, far_apart(sender), 2)
        for day in range(DAYS)
        for hour in range(8, 18)
        for sender in range(senders)
    ]


def site(share: float = SHARE) -> Partition:
    return Partition(Policy(1.0, WINDOW_MS, 0, 1, breaker_share=share), 1 << 14)


def burst(senders: Iterable[int], at_ms: int = NOON_MS, gap_ms: int = 0) -> list[Mail]:
    return [(at_ms + i * gap_ms, far_apart(sender), 3000) for i, sender in enumerate(senders)]


def after(mails: list[Mail], share: float = SHARE) -> Partition:
    """Return a site after these mails, in order of time."""
    partition = site(share)
    run(partition, mails)
    return partition


def run(partition: Partition, mails: list[Mail]) -> npt.NDArray[Any]:
    first = partition.applied_offset + 1
    events = [
        Event(first + i, t_ms, -1, key, messages, ACCEPTED) for i, (t_ms, key, messages) in enumerate(sorted(mails))
    ]
    return partition.apply(columns_of(events), 0, len(events))


def trips(mails: list[Mail]) -> int:
    return after(mails).breaker_trips


def test_one_compromised_sender_never_trips_the_breaker() -> None:
    noise = [(NOON_MS + i * 1000, far_apart(3), 1000) for i in range(40_000)]

    assert trips(everyday(10) + noise) == 0


def test_newcomers_never_trip_the_breaker() -> None:
    assert trips(everyday(10) + [(NOON_MS + i, far_apart(10_000 + i), 500) for i in range(5000)]) == 0


@pytest.mark.parametrize(("hosts", "expected"), [(5, 0), (6, 1)])
def test_six_compromised_known_hosts_trip_the_breaker_of_a_quiet_site(hosts: int, expected: int) -> None:
    assert trips(everyday(10) + burst(range(hosts))) == expected


@pytest.mark.parametrize(("hosts", "expected"), [(15, 0), (16, 1)])
def test_six_hosts_and_a_tenth_of_the_active_known_senders_trip_the_breaker(hosts: int, expected: int) -> None:
    """A hundred other senders sent in the half minute before; all attackers send at the same time."""
    awake = [(NOON_MS - BREAKER_WINDOW_MS + 100 * i, far_apart(100 + i), 1) for i in range(100)]

    assert trips(everyday(200) + awake + burst(range(hosts))) == expected


def test_six_hosts_in_more_than_an_hour_do_not_trip_the_breaker() -> None:
    assert trips(everyday(10) + burst(range(7), gap_ms=13 * 60_000)) == 0
    assert trips(everyday(10) + burst(range(7), gap_ms=9 * 60_000)) == 1


def test_same_five_hosts_again_and_again_do_not_trip_the_breaker() -> None:
    """Each is throttled again after its throttle has expired."""
    again = [mail for hour in range(0, 240, 30) for mail in burst(range(5), NOON_MS + hour * HOUR_MS)]

    assert trips(everyday(10) + again) == 0


def test_breaker_that_is_switched_off_closes_immediately() -> None:
    mails = everyday(10) + burst(range(6))

    assert after(mails, 0.0).breaker_trips == 0

    partition = after(mails)

    assert partition.breaker_tripped_ms == NOON_MS

    partition.reconfigure(partition.policy._replace(breaker_share=0.0))
    verdicts = run(partition, burst([7], NOON_MS + 1000))

    assert [partition.breaker_tripped_ms, THROTTLE in verdicts["kind"]] == [None, True]


def test_open_breaker_withdraws_suspects_and_rearms_after_ten_minutes() -> None:
    partition = after(everyday(10) + burst(range(6), NOON_MS - 5, 1))

    withdrawn = run(partition, [(NOON_MS + 1000, far_apart(8), 1)])

    assert withdrawn["key"].tolist() == [far_apart(sender) for sender in reversed(range(5))]
    assert (withdrawn["kind"] == RELEASE).all()
    assert not len(run(partition, burst([7], NOON_MS + BREAKER_REARM_MS - 1)))
    assert partition.breaker_tripped_ms == NOON_MS

    again = run(partition, burst([9], NOON_MS + BREAKER_REARM_MS))

    assert [partition.breaker_tripped_ms, again["kind"].tolist()] == [None, [THROTTLE]]


def test_breaker_stays_open_while_seven_senders_are_in_alarm_and_trips_again_later() -> None:
    """Seven are six and a tenth of the active senders."""
    partition = after(everyday(10) + burst(range(6), NOON_MS - 5, 1))

    for minutes in range(5, 45, 10):
        assert not (run(partition, burst(range(8), NOON_MS + minutes * 60_000))["kind"] == THROTTLE).any()
        assert partition.breaker_tripped_ms == NOON_MS

    later_ms = NOON_MS + 2 * HOUR_MS
    run(partition, [(later_ms, far_apart(8), 1)])

    assert partition.breaker_tripped_ms is None
    assert (run(partition, burst(range(6), later_ms + 1000))["kind"] == THROTTLE).sum() == 5
    assert [partition.breaker_trips, partition.breaker_tripped_ms] == [2, later_ms + 1000]


def test_active_throttle_is_not_extended_while_the_breaker_is_open_and_made_again_afterwards() -> None:
    partition = site()
    listed = far_apart(9)
    first = run(partition, [*everyday(10), (NOON_MS - 20 * HOUR_MS, listed, 3000)])
    until_ms = int(first[(first["key"] == listed) & (first["kind"] == THROTTLE)]["until_ms"][0])

    since = run(partition, [*burst(range(6), until_ms - 60_000), (until_ms - 30_000, listed, 3000)])

    assert listed not in since["key"].tolist()

    expired = run(partition, [(until_ms, far_apart(8), 1)])

    assert (listed, RELEASE) in zip(expired["key"].tolist(), expired["kind"].tolist(), strict=True)

    again = run(partition, [(until_ms + BREAKER_REARM_MS, listed, 3000)])

    assert (again["key"].tolist(), again["kind"].tolist()) == ([listed], [THROTTLE])


@pytest.mark.parametrize(("percent", "share"), [(0.1, 0.02), (0.5, 0.1), (1.0, 0.2), (10.0, 0.5)])
def test_tolerated_share_follows_the_budget_up_to_a_half(percent: float, share: float) -> None:
    assert allowed_share(percent) == pytest.approx(share)

    chosen = load_settings(None, {}, {"model.sensitivity": f"{percent:g}"})

    assert build.policy(chosen, 0).breaker_share == allowed_share(percent)
    assert build.policy(load_settings(None, {}, {"model.guard": "off"}), 0).breaker_share == 0
    assert chosen.config_hash() != load_settings(None, {}, {"model.guard": "off"}).config_hash()


def test_trip_and_rearming_are_logged_reported_and_explained(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    partition = after([*everyday(10), *burst(range(6)), (NOON_MS + 1000, far_apart(8), 1)])
    with caplog.at_level(logging.WARNING):
        log_breaker(partition, 0, None)

    assert ["the circuit breaker tripped" in record.getMessage() for record in caplog.records] == [True]

    report_breaker([partition])

    assert "tripped 1 times" in capsys.readouterr().err

    lines = "\n".join(in_lines(explain(partition, far_apart(8), NOON_MS + 1000, [], "sha256:0")))

    assert "Circuit breaker: open since 2026-01-11 12:00:00 UTC" in lines

    run(partition, [(NOON_MS + BREAKER_REARM_MS, far_apart(8), 1)])
    with caplog.at_level(logging.WARNING):
        log_breaker(partition, 1, NOON_MS)

    assert "re-armed" in caplog.messages[-1]
    assert "Circuit breaker" not in "\n".join(
        in_lines(explain(partition, far_apart(8), NOON_MS + BREAKER_REARM_MS, [], "sha256:0"))
    )


def test_throttle_period_ends_at_its_withdrawal() -> None:
    partition, collateral, composer = site(), Collateral(), build.composer(SETTINGS)
    mails = [*everyday(10), *burst(range(6)), (NOON_MS + 1000, far_apart(8), 1)]

    collateral.add_decisions([composer.decision(verdict, 0) for verdict in run(partition, mails)])

    assert collateral.throttle_periods[network_text(far_apart(0))] == [ThrottlePeriod(NOON_MS, NOON_MS + 1000)]
