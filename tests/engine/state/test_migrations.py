"""State of version 1, as that version wrote it.

`tests/golden/state-v1.batches` is a changelog of three checkpoints. `state-v1.ndjson` is its writer's state at the end: the
site, then each row, with version 1's field names.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import orjson

from engine.detector.layout import COUNTED, THROTTLED
from engine.state.encode import cut_state
from engine.state.migrations import CURRENT, EARLIER
from engine.state.partition import Partition
from engine.state.restore import Restoration
from tests.support.runs import add_fetch, fresh, restored, rows_of, state_of, wire_of
from tests.support.scenes import FOLDER
from tests.support.sequences import DAY_MS, IPV4_TAG, Event, columns_of
from topics.columns.scan import ACCEPTED

SCALES_1 = 3
SITE_NAMES = {  # of version 1, where they have changed
    "q90": "cohort_q90",
    "limit": "cohort_limit",
    "q50": "cohort_q50",
    "new_keys": "cohort_new_keys",
    "since_halving": "cohort_since_halving",
}


@cache
def known() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the site and the rows of version 1."""
    site, *rows = (orjson.loads(line) for line in (FOLDER / "state-v1.ndjson").read_bytes().splitlines())
    return site, rows


def of_version_1() -> Partition:
    """Return a partition restored from version 1's changelog."""
    restoration = Restoration(fresh())
    add_fetch(restoration, (FOLDER / "state-v1.batches").read_bytes())
    restoration.finish()
    return restoration.partition


def test_rows_of_version_1_are_restored() -> None:
    rows, (_, theirs) = rows_of(of_version_1()), known()

    assert rows["key"].tolist() == [row["key"] for row in theirs]
    assert np.isclose(rows["weight"] / 1000, [row["weight"] for row in theirs], atol=1e-3).all()
    assert rows["tokens"].tolist() == [row["burst"] if row["until_ms"] else 0 for row in theirs]
    for name in set(theirs[0]) - {"counted", "weight", "burst"}:
        expected = [row[name] for row in theirs]
        ours = rows[name][:, :SCALES_1] if isinstance(expected[0], list) else rows[name]
        assert ours.tolist() == expected, name
    assert [bool(flags & COUNTED) for flags in rows["flags"]] == [row["counted"] for row in theirs]
    assert [bool(flags & THROTTLED) for flags in rows["flags"]] == [row["until_ms"] > 0 for row in theirs]
    assert 0 < sum(row["until_ms"] > 0 for row in theirs) < len(theirs)


def test_site_of_version_1_is_restored() -> None:
    site, (theirs, _) = of_version_1().state.site[0], known()

    for name in set(theirs) - {"hist_sum", "neighbours_sum"}:
        field = site[SITE_NAMES.get(name, name)]
        ours = field[:SCALES_1] if isinstance(theirs[name], list) else field
        assert ours.tolist() == theirs[name], name
    assert site["decides_from"] == site["day"] == theirs["clock_ms"] // DAY_MS
    assert (site["threshold_scale"], site["cohort_rescaled_s"] > 0) == (1, True)
    assert np.isclose(site["cohort_hist"][:SCALES_1].sum(), theirs["hist_sum"])
    assert np.isclose(site["cohort_neighbours"].sum(dtype=np.float64), theirs["neighbours_sum"])


def test_throttle_of_version_1_expires_on_time() -> None:
    partition, (_, theirs) = of_version_1(), known()
    live = sorted((row["until_ms"], row["key"]) for row in theirs if row["until_ms"])
    late_ms = max(end for end, _ in live) + DAY_MS

    verdicts = partition.apply(columns_of([Event(1000, late_ms, -1, IPV4_TAG + 99, 1, ACCEPTED)]), 0, 1)

    assert [(int(verdict["until_ms"]), int(verdict["key"])) for verdict in verdicts] == live


def test_state_of_version_1_is_written_as_the_current_version_also_in_the_same_fetch() -> None:
    partition = of_version_1()
    first = (FOLDER / "state-v1.batches").read_bytes()
    events = [Event(1000 + i, partition.state.site[0]["clock_ms"] + i, -1, IPV4_TAG + i, 3, ACCEPTED) for i in range(9)]
    partition.apply(columns_of(events), 0, len(events))
    cut = cut_state(partition, 7)
    restoration = Restoration(fresh())
    add_fetch(restoration, first + wire_of([cut]))

    restoration.finish()

    assert state_of(restoration.partition) == state_of(partition)
    assert restoration.epoch == 7
    assert state_of(restored([cut_state(restoration.partition, 8)], restoration.partition)) == state_of(partition)


def test_every_kind_of_version_1_can_be_read() -> None:
    assert set(EARLIER) <= set(CURRENT)
    assert [EARLIER[kind][0].itemsize for kind in sorted(EARLIER)] == [120, 14744]
