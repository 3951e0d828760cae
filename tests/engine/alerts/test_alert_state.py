"""A condition is reported once it has lasted, again while it lasts, and once it is over; records survive restarts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from engine.alerts.alert_log import AlertLog, decode, encode
from engine.alerts.alert_state import BEGUN, LASTS, MAX_REPORTED, OVER, AlertRecord, AlertState
from tests.support.alerts import LAG, all_visible, none_visible
from tests.support.sequences import START_MS


def report(
    state: AlertState, presence: dict[int, bool], records: dict[str, AlertRecord] | None = None
) -> list[tuple[int, str]]:
    """Return the times and states of the notices about `LAG`; ``records`` is updated with them.

    ``presence``: whether the condition is true, by time.
    """
    records, reported = {} if records is None else records, []
    for at, is_present in presence.items():
        for notice in state.evaluate([LAG] if is_present else [], records, all_visible, at):
            reported.append((at, notice.state))
            if notice.record is None:
                del records[LAG.name]
            else:
                records[LAG.name] = notice.record
    return reported


def test_condition_is_reported_once_it_has_lasted_again_and_once_it_is_over() -> None:
    presence = {at: at <= 300 for at in range(0, 400, 10)}

    assert report(AlertState(50, 100), presence) == [(50, BEGUN), (150, LASTS), (250, LASTS), (350, OVER)]


def test_flapping_condition_is_not_reported_repeatedly() -> None:
    flapping = {at: at % 20 < 10 and at < 40 for at in range(0, 400, 10)}
    assert report(AlertState(50, 10_000), flapping) == []

    with_gaps = {at: at % 30 != 0 or at < 90 for at in range(0, 900, 10)}
    assert report(AlertState(50, 10_000), with_gaps) == [(50, BEGUN)]


@given(st.lists(st.booleans(), max_size=200), st.integers(0, 100), st.integers(1, 300))
def test_begun_and_over_alternate_and_repetitions_keep_their_distance(
    presence: list[bool], hold: int, repeat: int
) -> None:
    notices = report(AlertState(hold, repeat), {10 * i: is_present for i, is_present in enumerate(presence)})

    states = [state for _, state in notices if state != LASTS]
    assert states == [BEGUN, OVER] * (len(states) // 2) + [BEGUN] * (len(states) % 2)
    reported = [at for at, state in notices if state != OVER]
    begun = {at for at, state in notices if state == BEGUN}
    assert all(later - earlier >= repeat for earlier, later in pairwise(reported) if later not in begun)


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.sets(st.integers(0, 199)), st.integers(1, 300))
def test_restarts_neither_repeat_nor_omit_notices(presence: list[bool], restarts: set[int], repeat: int) -> None:
    steady, records, reported = AlertState(0, repeat), dict[str, AlertRecord](), list[tuple[int, str]]()
    state = AlertState(0, repeat)
    for i, is_present in enumerate(presence):
        state = AlertState(0, repeat) if i in restarts else state
        reported += report(state, {10 * i: is_present}, records)

    assert reported == report(steady, {10 * i: is_present for i, is_present in enumerate(presence)})


def test_condition_is_over_after_a_restart_once_it_was_absent_for_the_hold_time() -> None:
    records = {LAG.name: AlertRecord(LAG.kind, LAG.over_text, 5, 60)}

    assert report(AlertState(50, 10_000), dict.fromkeys(range(1000, 1100, 10), False), records) == [(1050, OVER)]
    assert records == {}


def test_condition_that_a_worker_can_not_detect_is_not_over() -> None:
    records = {LAG.name: AlertRecord(LAG.kind, LAG.over_text, 5, 60)}
    state = AlertState(0, 10_000)

    assert [state.evaluate([], records, none_visible, at) for at in (100, 200)] == [[], []]
    (over,) = state.evaluate([], records, all_visible, 300)

    assert (over.state, over.condition.over_text, over.since_ms, over.record) == (OVER, "caught up", 5, None)


def test_condition_beyond_the_limit_waits_until_another_is_over() -> None:
    records = {f"edge {number}": AlertRecord("edge", "", 0, 0) for number in range(MAX_REPORTED)}
    assert AlertState(0, 10_000).evaluate([LAG], records, none_visible, 1) == []

    del records["edge 0"]
    assert [notice.state for notice in AlertState(0, 10_000).evaluate([LAG], records, none_visible, 1)] == [BEGUN]


def notice_record(name: str, value: bytes | None, offset: int = 0) -> Any:
    return ConsumerRecord("notices", 0, offset, START_MS, 0, name.encode(), value, None, 0, 0, ())


def test_alert_log_follows_the_topic_unless_it_has_a_newer_record_to_write() -> None:
    log = AlertLog("notices", {})
    first, second = AlertRecord("lag", "caught up", 1, 2), AlertRecord("lag", "caught up", 1, 9)
    assert decode(encode("lag 0", first)) == first

    log.apply(notice_record("lag 0", encode("lag 0", first)))
    log.apply(notice_record("lag 1", b"{"))
    assert log.records == {"lag 0": first}

    log.begin("lag 0", second)
    log.apply(notice_record("lag 0", None))
    assert log.records == {"lag 0": second}

    log.begin("lag 0", None)
    log.apply(notice_record("lag 0", encode("lag 0", second)))
    assert log.records == {}
