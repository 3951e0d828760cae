"""The senders furthest above their baseline, compared with a search in plain Python."""

from __future__ import annotations

import math

import pytest

from engine.detector.constants import HOUR, HOUR_MS
from engine.detector.throttle import Policy
from engine.state.partition import Partition
from engine.state.top_senders import RECENT_MS, top_senders
from tests.support.sequences import DAY_MS, columns_of, rich_sequence


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [1, 4, 500])
def test_top_senders_are_those_that_a_scan_of_all_rows_finds(seed: int, most: int) -> None:
    events = rich_sequence(seed, 2000)
    partition = Partition(Policy(1.0, DAY_MS, 0, 1), 4096)
    partition.apply(columns_of(events), 0, len(events))
    clock_ms, newcomers = int(partition.state.site["clock_ms"][0]), float(partition.state.site["cohort_q90"][0][HOUR])
    expected = []
    for row in partition.state.rows[: partition.keys]:
        elapsed_ms = clock_ms - int(row["last_ms"])
        if elapsed_ms <= RECENT_MS:
            usual = float(row["memory"][HOUR]) if row["active_days"] else newcomers
            expected.append(
                (float(row["counter"][HOUR]) * math.exp(-max(0, elapsed_ms) / HOUR_MS) - usual, int(row["key"]))
            )
    wanted = [key for excess, key in sorted(expected, key=lambda pair: -pair[0]) if excess > 0][:most]

    ranked = top_senders(partition, most)

    assert [top.key for top in ranked] == wanted
    assert all(top.messages > top.expected for top in ranked)
