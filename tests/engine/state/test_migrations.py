"""The state of the version before, as that version wrote it: `tests/golden/state-v1.batches` is a changelog of three
checkpoints, `state-v1.ndjson` what its writer knew then (the site, then each row)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import orjson

from engine.detector.layout import COUNTED, WAITING
from engine.state.encode import take_cut
from engine.state.migrations import CURRENT, EARLIER
from engine.state.partition import Partition
from engine.state.restore import Restoration
from tests.support.runs import add_fetch, fresh, restored, rows_of, state_of, wire_of
from tests.support.scenes import FOLDER
from tests.support.sequences import DAY_MS, IPV4_TAG, Event, columns_of
from topics.columns.scan import ACCEPTED

SCALES_1 = 3


@cache
def known() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The site and the rows, as version 1 had them."""
    site, *rows = (orjson.loads(line) for line in (FOLDER / "state-v1.ndjson").read_bytes().splitlines())
    return site, rows


def of_version_1() -> Partition:
    restoration = Restoration(fresh())
    add_fetch(restoration, (FOLDER / "state-v1.batches").read_bytes())
    restoration.finish()
    return restoration.partition


def test_every_row_of_version_1_is_known_as_it_was() -> None:
    rows, (_, theirs) = rows_of(of_version_1()), known()
    assert rows["key"].tolist() == [row["key"] for row in theirs]
    assert np.isclose(rows["weight"] / 1000, [row["weight"] for row in theirs], atol=1e-3).all()
    assert rows["tokens"].tolist() == [row["burst"] if row["until_ms"] else 0 for row in theirs]
    for name in set(theirs[0]) - {"counted", "weight", "burst"}:
        meant = [row[name] for row in theirs]
        said = rows[name][:, :SCALES_1] if isinstance(meant[0], list) else rows[name]
        assert said.tolist() == meant, name
    assert [bool(flags & COUNTED) for flags in rows["flags"]] == [row["counted"] for row in theirs]
    assert [bool(flags & WAITING) for flags in rows["flags"]] == [row["until_ms"] > 0 for row in theirs]
    assert 0 < sum(row["until_ms"] > 0 for row in theirs) < len(theirs)


def test_the_site_of_version_1_is_known_as_it_was() -> None:
    site, (theirs, _) = of_version_1().state.site[0], known()
    for name in set(theirs) - {"hist_sum", "neighbours_sum"}:
        said = site[name][:SCALES_1] if isinstance(theirs[name], list) else site[name]
        assert said.tolist() == theirs[name], name
    assert site["decides_from"] == site["day"] == theirs["clock_ms"] // DAY_MS
    assert (site["lean"], site["stretched_s"] > 0) == (1, True)
    assert np.isclose(site["hist"][:SCALES_1].sum(), theirs["hist_sum"])
    assert np.isclose(site["neighbours"].sum(dtype=np.float64), theirs["neighbours_sum"])


def test_a_throttle_of_version_1_lapses_on_time() -> None:
    partition, (_, theirs) = of_version_1(), known()
    live = sorted((row["until_ms"], row["key"]) for row in theirs if row["until_ms"])
    late_ms = max(end for end, _ in live) + DAY_MS
    verdicts = partition.apply(columns_of([Event(1000, late_ms, -1, IPV4_TAG + 99, 1, ACCEPTED)]), 0, 1)
    assert [(int(verdict["until_ms"]), int(verdict["key"])) for verdict in verdicts] == live


def test_what_was_read_of_version_1_is_written_as_this_one_and_may_follow_it_in_one_fetch() -> None:
    partition = of_version_1()
    first = (FOLDER / "state-v1.batches").read_bytes()
    events = [Event(1000 + i, partition.state.site[0]["clock_ms"] + i, -1, IPV4_TAG + i, 3, ACCEPTED) for i in range(9)]
    partition.apply(columns_of(events), 0, len(events))
    cut = take_cut(partition, 7)
    restoration = Restoration(fresh())
    add_fetch(restoration, first + wire_of([cut]))
    restoration.finish()
    assert state_of(restoration.partition) == state_of(partition)
    assert restoration.epoch == 7
    assert state_of(restored([take_cut(restoration.partition, 8)], restoration.partition)) == state_of(partition)


def test_all_that_version_1_wrote_can_be_read() -> None:
    assert set(EARLIER) <= set(CURRENT)
    assert [EARLIER[kind][0].itemsize for kind in sorted(EARLIER)] == [120, 14744]
