"""The checks of a simulated run detect the faults that they exist for."""

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
    """Return a decision as a worker would publish it."""
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
def test_oracle_decides_the_same_from_records_and_from_raw_fetches(number: int) -> None:
    source = topic(number)
    by_fetch = EngineOracle(3, 1.0, WINDOW_MS)
    for i, partition in enumerate(source.partitions):
        for max_batches in (2, 3, 1000):
            by_fetch.apply_fetch(i, partition.fetch(0, max_batches))
    by_record = oracle_of(source, 1.0, 1024)
    assert by_fetch.decisions == by_record.decisions
    for one, other in zip(by_fetch.partitions, by_record.partitions, strict=True):
        assert (one.events, one.poison, one.detector.rows) == (other.events, other.poison, other.detector.rows)
    assert sum(partition.poison for partition in by_record.partitions) > 0


def test_empty_partition_equals_the_oracle_only_before_its_first_record() -> None:
    source = topic(1)
    number = max(range(3), key=lambda i: len(source.partitions[i].records))
    assert state_differences(fresh(), replay_of(source, number, 1.0, 1024, -1)) == []
    assert state_differences(fresh(), replay_of(source, number, 1.0, 1024, source.partitions[number].last_offset)) != []


def test_missing_changed_and_invented_decisions_are_reported() -> None:
    oracle = oracle_of(topic(2), 1.0, 1024)
    records = [published(decided) for decided in oracle.decisions.values()]
    assert decision_differences(records, oracle, [], Counter()) == []
    assert any("never published" in line for line in decision_differences(records[1:], oracle, [], Counter()))
    key, value, headers = next(record for record in records if record[1] is not None)
    changed = (key, orjson.dumps({**orjson.loads(value or b""), "until": 1}), headers)
    assert any("until: 1, not" in line for line in decision_differences([*records, changed], oracle, [], Counter()))
    invented = (key, orjson.dumps({**orjson.loads(value or b""), "network": "192.0.2.250/32"}), headers)
    assert any("not the oracle's" in line for line in decision_differences([*records, invented], oracle, [], Counter()))


def read_all(*sequence: tuple[str, int]) -> tuple[str, ContractReader]:
    reader = ContractReader()
    for verdict, offset in sequence:
        reader.read({"network": "192.0.2.1/32", "verdict": verdict, "source": {"offset": offset}})
    return str(reader.held["192.0.2.1/32"]["verdict"]), reader


def test_reader_ignores_older_decisions_and_a_release_at_the_offset_of_a_throttle() -> None:
    verdict, reader = read_all(("throttle", 3), ("release", 7), ("throttle", 3))
    assert (verdict, reader.ignored, reader.stale) == ("release", 1, 1)
    verdict, reader = read_all(("release", 7), ("throttle", 7), ("release", 7))
    assert (verdict, reader.ignored, reader.stale) == ("throttle", 1, 1)
    verdict, reader = read_all(("throttle", 3), ("throttle", 3), ("release", 7))
    assert (verdict, reader.ignored, reader.stale) == ("release", 0, 0)


def test_withdrawal_is_required_under_an_override_and_refused_without_one() -> None:
    oracle = oracle_of(topic(2), 1.0, 1024)
    records = [published(decided) for decided in oracle.decisions.values()]
    at = max(i for i, record in enumerate(records) if record[1] is not None)
    key, value, _ = records[at]
    fields = orjson.loads(value or b"")
    override = Override(fields["network"], EXEMPT, CONNECTOR, 0, None)
    withdrawn = (key, None, {"release": orjson.dumps({**fields, "verdict": "release", "reason": "override"})})
    topic_records = [*records[:at], withdrawn, *records[at + 1 :]]
    assert decision_differences(topic_records, oracle, [override], Counter()) == []
    assert any("without an override" in line for line in decision_differences(topic_records, oracle, [], Counter()))
    held = [*records[:at], (key, orjson.dumps({**fields, "until": 1 << 60}), {})]
    assert any("which is exempt" in line for line in decision_differences(held, oracle, [override], Counter()))
    elsewhere = replace(override, network="203.0.113.0/24")
    assert any(
        "without an override" in line for line in decision_differences(topic_records, oracle, [elsewhere], Counter())
    )
