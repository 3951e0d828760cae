"""The decision log of the page: decisions, overrides and heartbeats as their topics have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson
import pytest

from engine.decisions.override_index import OverrideIndex
from engine.web import decision_log as decision_log_module
from engine.web.decision_log import DecisionLog
from engine.worker.override_feed import OverrideFeed
from tests.support.decision_records import A, B, C, active_networks, decision, decision_record, topic_record
from tests.support.sequences import DAY_MS, START_MS
from topics.decisions import OVERRIDE, RELEASE
from topics.overrides import Override, Removal


def test_active_throttles_are_shown_the_last_published_first() -> None:
    log = DecisionLog("", {})
    log.apply([decision_record(decision(*made)) for made in ((A, 1), (B, 2), (C, 3), (A, 4))])
    assert active_networks(log) == [A, C, B]
    assert active_networks(log, search="2001:") == [C]
    assert active_networks(log, search="probation") == [A, C, B]
    assert active_networks(log, search="volume") == []

    log.apply([decision_record(decision(C, 5, RELEASE))])
    assert active_networks(log) == [A, B]

    log.apply([topic_record("decisions", B, None)])
    assert active_networks(log) == [A]
    assert active_networks(log, at_ms=START_MS + DAY_MS) == []

    log.drop_expired(START_MS + DAY_MS)
    assert log.throttles == {}
    assert [made.source.offset for made in log.decisions_on({A, B})] == [1, 2, 4]


def test_older_decision_is_ignored() -> None:
    log = DecisionLog("", {})
    log.apply([decision_record(decision(A, 9, until=START_MS + 7)), decision_record(decision(A, 3))])
    assert log.throttles[A].until == START_MS + 7

    log.apply([decision_record(decision(A, 3, RELEASE))])
    assert active_networks(log) == [A]


def test_release_at_equal_offset_is_ignored() -> None:
    log = DecisionLog("", {})

    log.apply([decision_record(decision(A, 5)), decision_record(decision(A, 5, RELEASE))])

    assert active_networks(log) == [A]


def test_throttle_at_equal_offset_replaces_release() -> None:
    log = DecisionLog("", {})

    log.apply(
        [decision_record(decision(A, 4)), decision_record(decision(A, 5, RELEASE)), decision_record(decision(A, 5))]
    )

    assert active_networks(log) == [A]


def test_release_by_override_at_equal_offset_ends_the_throttle() -> None:
    log = DecisionLog("", {})
    ordered = replace(decision(A, 5, RELEASE), reason=OVERRIDE)

    log.apply([decision_record(decision(A, 5)), decision_record(ordered), decision_record(decision(A, 5))])

    assert active_networks(log) == []


def test_replayed_throttle_is_ignored_until_its_release_expires() -> None:
    log = DecisionLog("", {})
    throttle = decision(A, 4, until=START_MS + 7)
    log.apply([decision_record(throttle), decision_record(decision(A, 5, RELEASE, until=START_MS))])

    log.drop_expired(START_MS + 6)
    log.apply([decision_record(throttle)])
    assert active_networks(log) == []

    log.drop_expired(START_MS + 7)
    log.apply([decision_record(decision(A, 3))])
    assert active_networks(log) == [A]


def test_throttles_beyond_the_limit_drop_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_log_module, "MAX_THROTTLES", 3)
    log = DecisionLog("", {})

    log.apply([decision_record(decision(f"192.0.2.{n}/32", n)) for n in range(5)])

    assert active_networks(log) == [f"192.0.2.{n}/32" for n in (4, 3, 2)]


def test_unreadable_records_are_ignored() -> None:
    log = DecisionLog("", {})

    unreadable = [topic_record("decisions", A, b"{"), topic_record("edges", "e", b"7")]
    log.apply([*unreadable, decision_record(decision(B, 1))])

    assert (active_networks(log), log.heartbeats) == ([B], {})


async def _apply_nothing(networks: Sequence[str]) -> None:
    """Stand in for the engine."""


def test_overrides_are_read_once_and_shown_until_removed() -> None:
    log, index = DecisionLog("", {}), OverrideIndex()
    feed = OverrideFeed("exemptions", {}, index, _apply_nothing)
    feed.subscribe(log.apply_override)
    override = {"network": A, "kind": "exempt", "reason": "a customer", "by": "anna", "v": 1}
    named = {"name": "helo:.example.com", "kind": "exempt-name", "created": 7, "v": 1}
    records = [
        topic_record("exemptions", A, b"[]"),
        topic_record("exemptions", A, orjson.dumps(override)),
        topic_record("exemptions", "helo:.example.com", orjson.dumps(named)),
    ]

    assert feed.add(records) == [A]
    shown = log.overrides[A]
    assert (shown.reason, shown.by, shown.created) == ("a customer", "anna", START_MS)
    assert set(log.overrides) == {A, "helo:.example.com"}

    removal = orjson.dumps({"by": "ben", "created": START_MS + 5})
    feed.add([topic_record("exemptions", A, None, removal=removal)])

    assert set(log.overrides) == {"helo:.example.com"}
    assert [(type(record), record.by) for record in log.override_history] == [
        (Override, "anna"),
        (Override, ""),
        (Removal, "ben"),
    ]
    active = [index.active(A, START_MS + after_ms) is not None for after_ms in (0, 4, 5)]
    assert active == [True, True, False]


def test_edge_that_was_stopped_properly_is_not_silent() -> None:
    log = DecisionLog("", {})

    for name, alive in (("mx1", True), ("mx2", True), ("mx2", False)):
        log.apply([topic_record("edges", name, orjson.dumps({"edge": name, "ts": START_MS, "alive": alive, "v": 1}))])

    assert set(log.silent_edges(1000)) == {"mx1"}
