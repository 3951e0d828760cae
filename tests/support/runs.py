"""Runs of a partition for the laws: block by block, through checkpoints, without what must not affect the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from engine.detector.layout import ALARMED, COUNTED, LEARNING, PASSED, THROTTLED, Pools
from engine.detector.throttle import Policy
from engine.detector.verdict import THROTTLE, VERDICT
from engine.state import partition as partition_module
from engine.state.encode import Cut, cut_state
from engine.state.partition import Partition
from engine.state.restore import Restoration
from tests.support.sequences import WINDOW_MS
from topics.columns.batches import BATCH, RecordColumns, empty_records, find_batches, read_records, unpack
from topics.columns.batchwrite import ColumnBatch
from topics.columns.scan import EventColumns

ROWS = 1024
RELEASE_FIELDS = ("kind", "key", "prefix", "offset", "issued_ms", "until_ms")
POLICY = Policy(1.0, WINDOW_MS, 0, 1, (2.0, 1.5))


def fresh(policy: Policy = POLICY, *, room: int = 1024, rows: int = ROWS) -> Partition:
    """Return an empty partition of `rows` rows whose verdict buffer holds `room` verdicts."""
    with patch.object(partition_module, "VERDICT_ROOM", room):
        return Partition(policy, rows)


def rows_of(partition: Partition) -> npt.NDArray[Any]:
    """Return the rows in use by key, without the flags that only concern storage."""
    rows = np.sort(partition.state.rows[: partition.keys], order="key")
    rows["flags"] &= COUNTED | THROTTLED | PASSED
    return rows


def used_pools(pools: Pools) -> npt.NDArray[Any]:
    """Return the pools in use, in table order."""
    assert (pools.rows["key"] == pools.keys).all()
    used: npt.NDArray[Any] = pools.rows[pools.keys != 0]
    assert len(used) == pools.cursor["rows"][0]
    return used


def pools_of(partition: Partition) -> npt.NDArray[Any]:
    """Return the pools by last use, without the flags that only concern storage."""
    by_use = np.sort(used_pools(partition.state.pools), order="last_use")
    by_use["flags"] &= ALARMED | LEARNING
    return by_use


def state_of(partition: Partition) -> tuple[bytes, ...]:
    """Return the whole state: rows by key, site, admission filter, prefixes, pools."""
    state, pools = partition.state, pools_of(partition)
    return (
        *(part.tobytes() for part in (rows_of(partition), state.site, state.admission_filter, state.prefixes, pools)),
    )


def facts_of(verdicts: npt.NDArray[Any]) -> bytes:
    """Return the verdicts without the event's number in its block; releases without the fields of a throttle."""
    plain = np.zeros(len(verdicts), VERDICT)
    for name in RELEASE_FIELDS:
        plain[name] = verdicts[name]
    throttles = verdicts["kind"] == THROTTLE
    plain[throttles] = verdicts[throttles]
    plain["event"] = 0
    return plain.tobytes()


@dataclass(slots=True)
class Run:
    """A partition with its changelog and its verdicts so far."""

    partition: Partition = field(default_factory=fresh)
    changelog: list[Cut] = field(default_factory=list)
    facts: bytes = b""  # verdicts, as `facts_of` returns them

    def apply(self, columns: EventColumns, first: int = 0, last: int | None = None) -> None:
        verdicts = self.partition.apply(columns, first, len(columns.offset) if last is None else last)
        self.facts += facts_of(verdicts)

    def checkpoint(self) -> None:
        self.changelog.append(cut_state(self.partition, len(self.changelog)))

    def restart(self) -> None:
        """Continue with a new partition restored from the changelog."""
        self.partition = restored(self.changelog, fresh(self.partition.policy, rows=len(self.partition.state.rows)))

    def result(self) -> tuple[bytes, tuple[bytes, ...]]:
        return self.facts, state_of(self.partition)


def verdicts_from(facts: bytes) -> npt.NDArray[Any]:
    """Return the verdicts of a run as VERDICT[]."""
    return np.frombuffer(facts, VERDICT)


def wire_of(changelog: Iterable[Cut]) -> bytes:
    """Return the changelog's batches as a broker would serve them."""
    served, offset = [], 0
    for cut in changelog:
        for section in cut.sections:
            batch = bytearray(ColumnBatch(section.records, section.count, (0, 0), transactional=True)._build())
            batch[:8] = offset.to_bytes(8, "big")
            offset += section.count
            served.append(bytes(batch))
    return b"".join(served)


def add_fetch(restoration: Restoration, fetched: bytes) -> None:
    """Apply one fetch of the changelog to a partition that is being restored."""
    view, room = np.frombuffer(fetched, np.uint8), np.zeros(8192, BATCH)
    count, at = find_batches(view, 0, True, room)
    batches = room[:count]
    assert at == len(fetched)
    arena = unpack(fetched, batches, np.empty(1 << 20, np.uint8)).view()
    arena.flags.writeable = False
    records = empty_records(int(batches["records"].sum()))
    read = read_records(view, arena, batches, 0, records)
    assert batches["sound"].all()
    restoration.add(view, arena, RecordColumns._make(column[:read] for column in records))


def restored(changelog: Sequence[Cut], into: Partition) -> Partition:
    """Restore a partition from a changelog that is read in one fetch, and return it."""
    restoration = Restoration(into)
    if changelog:
        add_fetch(restoration, wire_of(changelog))
    restoration.finish()
    return into
