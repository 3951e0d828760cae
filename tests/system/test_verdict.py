"""The checks of the fault suite detect differing rows, and decisions that are lost, altered, repeated or published too late."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from engine.detector.layout import ROW
from tests.system.faults.verdict import Identity, Verdict, compare_decisions, differing_rows


def text(offset: int, network: str = "192.0.2.1/32", partition: int = 0, **more: Any) -> bytes:
    source = {"topic": "connections", "partition": partition, "offset": offset}
    return orjson.dumps({"network": network, "verdict": "throttle", "source": source, **more})


def judged(published: list[bytes], wanted: list[bytes]) -> Verdict:
    expected: dict[Identity, dict[str, Any]] = {}
    for fields in map(orjson.loads, wanted):
        source = fields.pop("source")
        expected[(fields["network"], fields["verdict"], source["partition"], source["offset"])] = fields
    verdict = Verdict(0)
    compare_decisions(verdict, published, expected)
    return verdict


def test_decisions_of_the_replay_are_good() -> None:
    decisions = [text(1), text(5), text(3, "192.0.2.2/32")]
    assert judged(decisions, decisions).good


def test_repeat_is_counted_and_good() -> None:
    verdict = judged([text(1), text(5), text(1), text(5)], [text(1), text(5)])
    assert (verdict.repeats, verdict.regressions, verdict.good) == (2, 0, True)


def test_new_decision_after_one_with_a_higher_offset_is_a_regression() -> None:
    verdict = judged([text(5), text(1)], [text(1), text(5)])
    assert (verdict.repeats, verdict.regressions, verdict.good) == (0, 1, False)


def test_offsets_of_other_partitions_and_networks_are_no_regression() -> None:
    decisions = [text(5), text(1, partition=1), text(1, "192.0.2.2/32")]
    assert judged(decisions, decisions).good


@pytest.mark.parametrize("published", [[text(1)], [text(1), text(5, until=9)], [text(1), text(5), text(7)]])
def test_lost_altered_or_additional_decision_is_a_complaint(published: list[bytes]) -> None:
    verdict = judged(published, [text(1), text(5)])
    assert verdict.complaints
    assert not verdict.good


def rows(*keys: int) -> np.ndarray[Any, Any]:
    made = np.zeros(len(keys), ROW)
    made["key"], made["counter"] = keys, 1.0
    return made


def test_equal_rows_do_not_differ() -> None:
    assert differing_rows(rows(1, 2, 3), rows(1, 2, 3)) == 0


def test_missing_additional_and_changed_rows_differ() -> None:
    assert differing_rows(rows(1, 2), rows(1, 2, 3)) == 1
    assert differing_rows(rows(1, 2, 4), rows(1, 2, 3)) == 2
    changed = rows(1, 2, 3)
    changed["counter"][1, 2] = 2.0
    assert differing_rows(changed, rows(1, 2, 3)) == 1
