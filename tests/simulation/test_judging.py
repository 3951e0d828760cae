"""The judges of a simulated run see what they are there to see."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from math import isfinite
from typing import Any

import orjson
import pytest

from tests.oracles.engine import BY_LENGTH, Decided, EngineOracle
from tests.oracles.senders import SCALES
from tests.simulation.judging import (
    WINDOW_MS,
    ContractReader,
    Published,
    decision_differences,
    oracle_of,
    replay_of,
    state_differences,
)
from tests.simulation.source import SourceTopic
from tests.support.runs import fresh
from topics.overrides import CONNECTOR, EXEMPT, Override


def topic(seed: int) -> SourceTopic:
    source = SourceTopic(random.Random(seed), 3, 200)
    for partition in source.partitions:
        partition.served = len(partition.batches)
    return source


def published(decided: Decided) -> Published:
    """A decision as a worker would publish it."""
    verdict = decided.verdict
    fields: dict[str, Any] = {
        "network": decided.network,
        "verdict": verdict.kind,
        "issued": verdict.issued_ms,
        "until": verdict.until_ms,
        "source": {"topic": "connections", "partition": decided.partition, "offset": verdict.offset},
    }
    if verdict.kind == "release":
        return decided.network.encode(), None, {"release": orjson.dumps(fields)}
    numbers = {"counters": verdict.counters, "limits": verdict.limits, "peaks": verdict.peaks}
    by_scale = {
        name: {scale: values[SCALES.index(scale)] for scale in BY_LENGTH if isfinite(values[SCALES.index(scale)])}
        for name, values in numbers.items()
    }
    evidence = {
        "scales": [scale for scale in BY_LENGTH if scale in verdict.scales],
        "active_days": verdict.active_days,
        "first_seen": decided.verdict.first_seen_ms,
        **by_scale,
    }
    fields |= {
        "rate_per_min": verdict.rate_per_min,
        "burst": verdict.burst,
        "reason": verdict.reason,
        "evidence": evidence,
    }
    return decided.network.encode(), orjson.dumps(fields), {}


@pytest.mark.parametrize("number", range(5))
def test_records_and_octets_of_fetches_give_the_oracle_the_same(number: int) -> None:
    source = topic(number)
    by_fetch = EngineOracle(3, 1.0, WINDOW_MS)
    for i, partition in enumerate(source.partitions):
        for most_batches in (2, 3, 1000):
            by_fetch.apply_fetch(i, partition.fetch(0, most_batches))
    by_record = oracle_of(source, 1.0, 1024)
    assert by_fetch.decisions == by_record.decisions
    for one, other in zip(by_fetch.partitions, by_record.partitions, strict=True):
        assert (one.events, one.poison, one.detector.rows) == (other.events, other.poison, other.detector.rows)
    assert sum(partition.poison for partition in by_record.partitions) > 0


def test_an_empty_partition_is_the_oracles_before_its_first_record_and_not_after() -> None:
    source = topic(1)
    number = max(range(3), key=lambda i: len(source.partitions[i].records))
    assert state_differences(fresh(), replay_of(source, number, 1.0, 1024, -1)) == []
    assert state_differences(fresh(), replay_of(source, number, 1.0, 1024, source.partitions[number].last_offset)) != []


def test_missing_changed_and_invented_decisions_are_told() -> None:
    oracle = oracle_of(topic(2), 1.0, 1024)
    said = [published(decided) for decided in oracle.decisions.values()]
    assert decision_differences(said, oracle, [], Counter()) == []
    assert any("never published" in line for line in decision_differences(said[1:], oracle, [], Counter()))
    key, value, headers = next(record for record in said if record[1] is not None)
    changed = (key, orjson.dumps({**orjson.loads(value or b""), "until": 1}), headers)
    assert any("until: 1, not" in line for line in decision_differences([*said, changed], oracle, [], Counter()))
    invented = (key, orjson.dumps({**orjson.loads(value or b""), "network": "192.0.2.250/32"}), headers)
    assert any("nobody decided" in line for line in decision_differences([*said, invented], oracle, [], Counter()))


def heard(*sequence: tuple[str, int]) -> tuple[str, ContractReader]:
    reader = ContractReader()
    for verdict, offset in sequence:
        reader.read({"network": "192.0.2.1/32", "verdict": verdict, "source": {"offset": offset}})
    return str(reader.held["192.0.2.1/32"]["verdict"]), reader


def test_a_reader_ignores_what_is_older_and_a_release_that_the_same_event_took_back() -> None:
    told, reader = heard(("throttle", 3), ("release", 7), ("throttle", 3))
    assert (told, reader.ignored, reader.stale) == ("release", 1, 1)
    told, reader = heard(("release", 7), ("throttle", 7), ("release", 7))
    assert (told, reader.ignored, reader.stale) == ("throttle", 1, 1)
    told, reader = heard(("throttle", 3), ("throttle", 3), ("release", 7))
    assert (told, reader.ignored, reader.stale) == ("release", 0, 0)


def test_what_operators_ordered_is_asked_for_and_nothing_else_is_let_go() -> None:
    oracle = oracle_of(topic(2), 1.0, 1024)
    said = [published(decided) for decided in oracle.decisions.values()]
    at = max(i for i, record in enumerate(said) if record[1] is not None)
    key, value, _ = said[at]
    fields = orjson.loads(value or b"")
    order = Override(fields["network"], EXEMPT, CONNECTOR, 0, None)
    withdrawn = (key, None, {"release": orjson.dumps({**fields, "verdict": "release", "reason": "override"})})
    told = [*said[:at], withdrawn, *said[at + 1 :]]
    assert decision_differences(told, oracle, [order], Counter()) == []
    assert any("nobody ordered" in line for line in decision_differences(told, oracle, [], Counter()))
    held = [*said[:at], (key, orjson.dumps({**fields, "until": 1 << 60}), {})]
    assert any("which is exempt" in line for line in decision_differences(held, oracle, [order], Counter()))
    elsewhere = replace(order, network="203.0.113.0/24")
    assert any("nobody ordered" in line for line in decision_differences(told, oracle, [elsewhere], Counter()))
