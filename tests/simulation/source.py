"""The source topic of a simulated run: seeded events of a few busy keys, some poison, in batches with gaps between them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import orjson

from tests.oracles.records import CODECS
from tests.simulation.batches import batch_of, placed
from tests.support.fetches import Sent
from tests.support.floods import KEYS as FLOOD_KEYS
from tests.support.sequences import GAPS_MS, RECORD_LAGS_MS, START_MS, far_apart
from topics.keys import key_text
from topics.partitioner import partition_of

POISON = (
    b"", b"no JSON", b"[]", b'{"ip":"192.0.2.1"}', b'{"ts":1.5,"ip":"192.0.2.1"}', b'{"ts":1700000000000,"ip":"192.0.2.999"}',
    b'{"ts":1700000000000,"ip":"192.0.2.1","messages":-1}', None,
)  # fmt: skip
MESSAGES = (1, 1, 1, 2, 5, 14, 25, 41, 60, 200, 3000)
OUTCOMES = ("accepted", "accepted", "accepted", "accepted", "rejected", "deferred")


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """A batch as the broker stores it, and the offsets of its records."""

    first_offset: int
    last_offset: int
    raw: bytes


@dataclass(slots=True)
class SourcePartition:
    """A partition's log."""

    batches: list[SourceBatch] = field(default_factory=list)
    records: list[tuple[int, Sent]] = field(default_factory=list)  # offset and record, of all batches
    served: int = 0  # batches written so far

    @property
    def last_offset(self) -> int:
        """The last offset of the whole log, -1 for an empty one."""
        return self.batches[-1].last_offset if self.batches else -1

    def fetch(self, offset: int, max_batches: int) -> bytes:
        """Return the batches from the one at or after ``offset`` on; nothing at the end of the written ones."""
        first = next((i for i, batch in enumerate(self.batches) if batch.last_offset >= offset), self.served)
        return b"".join(batch.raw for batch in self.batches[first : min(first + max_batches, self.served)])


class SourceTopic:
    """A topic of ``partitions`` partitions with ``count`` records, all drawn from ``draw``."""

    def __init__(self, draw: random.Random, partitions: int, count: int) -> None:
        self.partitions = [SourcePartition() for _ in range(partitions)]
        waiting: list[list[Sent]] = [[] for _ in range(partitions)]
        keys = [far_apart(i) for i in range(draw.choice((3, 8, 30)))] + [0x20010DB8_00000000 + i for i in range(3)]
        keys = draw.choice((keys, FLOOD_KEYS))
        now_ms = START_MS
        for _ in range(count):
            now_ms += draw.choice(GAPS_MS)
            key = draw.choice(keys)
            owner = partition_of(key_text(key).encode(), partitions)
            waiting[owner].append(_record(draw, now_ms, key))
            if len(waiting[owner]) >= draw.choice((1, 3, 8, 30)):
                self._write(owner, waiting[owner], draw)
                waiting[owner] = []
        for owner, records in enumerate(waiting):
            self._write(owner, records, draw)

    def _write(self, owner: int, records: list[Sent], draw: random.Random) -> None:
        if not records:
            return
        partition = self.partitions[owner]
        first = partition.last_offset + draw.choice((1, 1, 1, 1, 2, 7))  # markers and aborted batches leave gaps
        partition.records += [(first + i, record) for i, record in enumerate(records)]
        raw = placed(batch_of(records, draw.choice(CODECS)), first)
        partition.batches.append(SourceBatch(first, first + len(records) - 1, raw))


def _record(draw: random.Random, now_ms: int, key: int) -> Sent:
    lag_ms = draw.choice(RECORD_LAGS_MS)
    record_ms = -1 if lag_ms is None else now_ms + lag_ms
    if draw.random() < 0.04:
        return Sent(record_ms, None, draw.choice(POISON))
    ip = key_text(key).replace("/64", str(draw.randrange(1, 10)))
    fields = {
        "ts": now_ms, "ip": ip, "messages": draw.choice(MESSAGES), "outcome": draw.choice(OUTCOMES),
    }  # fmt: skip
    if draw.random() < 0.1:
        fields["helo"] = 'a "quoted" name'  # the scan passes it to the slow path
    return Sent(record_ms, key_text(key).encode(), orjson.dumps(fields))
