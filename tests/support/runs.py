"""How the laws run a partition: block by block, through checkpoints, with what must not matter taken out of the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from engine.detector.layout import ALARMED, COUNTED, LEARNING, PASSED, WAITING, Pools
from engine.detector.throttle import Policy
from engine.detector.verdict import THROTTLE, VERDICT
from engine.state import partition as partition_module
from engine.state.encode import Cut, take_cut
from engine.state.partition import Partition
from engine.state.restore import Restoration
from tests.support.sequences import WINDOW_MS
from topics.columns.batches import BATCH, RecordColumns, empty_records, find_batches, read_records, unpack
from topics.columns.batchwrite import ColumnBatch
from topics.columns.scan import EventColumns

ROWS = 1024
RELEASE_SAYS = ("kind", "key", "prefix", "offset", "issued_ms", "until_ms")
POLICY = Policy(1.0, WINDOW_MS, 0, 1, (2.0, 1.5))


def fresh(policy: Policy = POLICY, *, room: int = 1024, rows: int = ROWS) -> Partition:
    """A partition of ``rows`` rows whose verdict buffer holds ``room`` verdicts."""
    with patch.object(partition_module, "VERDICT_ROOM", room):
        return Partition(policy, rows)


def rows_of(partition: Partition) -> npt.NDArray[Any]:
    """The rows in use, by key, without the flag that says how a row is filed and not what is known of it."""
    rows = np.sort(partition.state.rows[: partition.keys], order="key")
    rows["flags"] &= COUNTED | WAITING | PASSED
    return rows


def held_pools(pools: Pools) -> npt.NDArray[Any]:
    """The rows in use, as they lie."""
    assert (pools.rows["key"] == pools.keys).all()
    held: npt.NDArray[Any] = pools.rows[pools.keys != 0]
    assert len(held) == pools.cursor["rows"][0]
    return held


def pools_of(partition: Partition) -> npt.NDArray[Any]:
    """The pools in the order of their use, without the flags that say how a pool is filed."""
    by_use = np.sort(held_pools(partition.state.pools), order="used")
    by_use["flags"] &= ALARMED | LEARNING
    return by_use


def state_of(partition: Partition) -> tuple[bytes, ...]:
    """Everything that a partition knows: its rows by key, its site record, who is at its door, prefixes of strangers, pools."""
    state, pools = partition.state, pools_of(partition)
    return (*(part.tobytes() for part in (rows_of(partition), state.site, state.door, state.flood, pools)),)


def facts_of(verdicts: npt.NDArray[Any]) -> bytes:
    """The verdicts without the number that the event has in its block, releases without what only a throttle says."""
    plain = np.zeros(len(verdicts), VERDICT)
    for name in RELEASE_SAYS:
        plain[name] = verdicts[name]
    throttles = verdicts["kind"] == THROTTLE
    plain[throttles] = verdicts[throttles]
    plain["event"] = 0
    return plain.tobytes()


@dataclass(slots=True)
class Run:
    """A partition under way. ``changelog``: the cuts that it has written."""

    partition: Partition = field(default_factory=fresh)
    changelog: list[Cut] = field(default_factory=list)
    facts: bytes = b""

    def apply(self, columns: EventColumns, first: int = 0, last: int | None = None) -> None:
        verdicts = self.partition.apply(columns, first, len(columns.offset) if last is None else last)
        self.facts += facts_of(verdicts)

    def checkpoint(self) -> None:
        self.changelog.append(take_cut(self.partition, len(self.changelog)))

    def restart(self) -> None:
        """Go on with a new partition that knows what the changelog knows."""
        self.partition = restored(self.changelog, fresh(self.partition.policy, rows=len(self.partition.state.rows)))

    def result(self) -> tuple[bytes, tuple[bytes, ...]]:
        return self.facts, state_of(self.partition)


def verdicts_from(facts: bytes) -> npt.NDArray[Any]:
    """The verdicts of a run, as VERDICT[]."""
    return np.frombuffer(facts, VERDICT)


def wire_of(changelog: Iterable[Cut]) -> bytes:
    """The changelog's batches as a broker would serve them."""
    served, offset = [], 0
    for cut in changelog:
        for section in cut.sections:
            batch = bytearray(ColumnBatch(section.octets, section.count, (0, 0), transactional=True)._build())
            batch[:8] = offset.to_bytes(8, "big")
            offset += section.count
            served.append(bytes(batch))
    return b"".join(served)


def add_fetch(restoration: Restoration, octets: bytes) -> None:
    """What one fetch of the changelog does to a partition that is being restored."""
    view, room = np.frombuffer(octets, np.uint8), np.zeros(8192, BATCH)
    count, at = find_batches(view, 0, True, room)
    batches = room[:count]
    assert at == len(octets)
    arena = unpack(octets, batches, np.empty(1 << 20, np.uint8)).view()
    arena.flags.writeable = False
    records = empty_records(int(batches["records"].sum()))
    read = read_records(view, arena, batches, 0, records)
    assert batches["sound"].all()
    restoration.add(view, arena, RecordColumns._make(column[:read] for column in records))


def restored(changelog: Sequence[Cut], into: Partition) -> Partition:
    """A partition from a changelog that is read in one fetch."""
    restoration = Restoration(into)
    if changelog:
        add_fetch(restoration, wire_of(changelog))
    restoration.finish()
    return into
