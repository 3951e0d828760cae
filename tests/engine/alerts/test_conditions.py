"""Conditions are derived from a status, silent edges and watched throttles, and each has one worker that reports it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from engine.alerts.conditions import AlertThresholds, Condition, Visibility, find_conditions
from engine.config.validators import CONDITIONS
from engine.web.decision_log import DecisionLog
from tests.support.decision_records import A, B, C, decision, decision_record
from tests.support.sequences import DAY_MS, START_MS
from topics.decisions import RELEASE

THRESHOLDS = AlertThresholds(60.0, 0.8)


def status(**changes: Any) -> dict[str, Any]:
    established = {"messages": 50_000.0, "share": 0.001, "budget": 0.005}
    partition = {"breaker_tripped_ms": None, "lag": 0, "lag_s": 0.0, "established": established, **changes}
    return {"partitions": {"0": partition}}


def conditions_of(worker_status: dict[str, Any], **more: Any) -> list[Condition]:
    return list(find_conditions(worker_status, more.get("silent", {}), more.get("watched", {}), THRESHOLDS))


def test_healthy_worker_has_no_condition() -> None:
    assert conditions_of(status()) == []


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({"lag": 900, "lag_s": 61.0}, "lag 0", "lags by 61 s and 900 events"),
        (
            {"established": {"messages": 5e4, "share": 0.004, "budget": 0.005}},
            "budget 0",
            "0.40% .* 80% of the budget of",
        ),
        ({"breaker_tripped_ms": START_MS}, "breaker 0", "the circuit breaker has tripped"),
    ],
)
def test_condition_of_a_partition_is_reported_in_words(change: dict[str, Any], name: str, words: str) -> None:
    (condition,) = conditions_of(status(**change))

    assert condition.name == name
    assert condition.kind == name.split(" ", maxsplit=1)[0]
    assert re.search(words, condition.text)


def test_deferred_share_of_few_messages_is_no_condition() -> None:
    assert conditions_of(status(established={"messages": 900.0, "share": 0.5, "budget": 0.005})) == []


def test_edges_and_watched_networks_are_reported_by_the_owner_of_partition_0() -> None:
    more: dict[str, Any] = {"silent": {"mx1": 30.0}, "watched": {A: "192.0.2.1/32: too much"}}

    assert [condition.name for condition in conditions_of(status(), **more)] == ["edge mx1", f"watch {A}"]
    assert conditions_of({"partitions": {"1": status()["partitions"]["0"]}}, **more) == []


def test_each_kind_of_condition_can_be_found() -> None:
    all_kinds = status(
        breaker_tripped_ms=1, lag=1, lag_s=99.0, established={"messages": 5e4, "share": 1.0, "budget": 0.1}
    )

    found = conditions_of(all_kinds, silent={"e": 9.0}, watched={A: "x"})

    assert {condition.kind for condition in found} == CONDITIONS


def test_watched_throttles_are_those_that_overlap_a_watched_network() -> None:
    log = DecisionLog("", {}, ["192.0.2.0/31", "2001:db8::/32"])
    networks = (A, B, C, "192.0.2.0/24")
    log.apply([decision_record(decision(network, offset)) for offset, network in enumerate(networks, 1)])
    assert set(log.watched_throttles(START_MS)) == {A, C, "192.0.2.0/24"}

    log.apply([decision_record(decision(A, 5, RELEASE))])
    assert set(log.watched_throttles(START_MS)) == {C, "192.0.2.0/24"}
    assert log.watched_throttles(START_MS + DAY_MS) == {}


def test_worker_covers_its_partitions_and_with_partition_0_the_site() -> None:
    first = Visibility(["0", "2"], ["mx1"], lambda network: network == A)
    other = Visibility(["1"], ["mx1"], lambda _: True)
    names = [
        ("lag", "lag 2"),
        ("breaker", "breaker 1"),
        ("edge", "edge mx1"),
        ("edge", "edge mx2"),
        ("watch", f"watch {A}"),
    ]

    assert [first.covers(*name) for name in names] == [True, False, True, False, True]
    assert [other.covers(*name) for name in names] == [False, True, False, False, False]
