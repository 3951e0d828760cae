"""The simulated cluster: logs, transactions and committed offsets, which survive the workers.

Each call is one request at the time it takes effect; its clients simulate delays and losses. The cluster checks the promises
that only it can see: a checkpoint never moves a partition's durable offset back, and no commit is ahead of it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka.errors import ProducerFenced

from tests.simulation.batches import ABORT, COMMIT, marker, placed, records_in, thinned
from tests.simulation.source import SourceTopic
from topics.changelog import HEAD, SITE_KEY
from topics.columns.batchwrite import ColumnBatch
from topics.overrides import Override

APPLIED_AT = HEAD.size  # of the applied offset in a site record


@dataclass(slots=True)
class StoredBatch:
    """A batch of the changelog."""

    first_offset: int
    last_offset: int
    raw: bytes
    state: str  # "open", "committed", "aborted" or "marker"


@dataclass(slots=True)
class Transactional:
    """The coordinator's state of a transactional id."""

    producer_id: int
    epoch: int = -1
    open: list[StoredBatch] = field(default_factory=list)


class Aborted(NamedTuple):
    """An aborted transaction, as a fetch response names it, and its end."""

    producer_id: int
    first_offset: int
    last_offset: int


@dataclass(slots=True)
class StateLog:
    """A partition of the changelog."""

    batches: list[StoredBatch] = field(default_factory=list)
    aborted: list[Aborted] = field(default_factory=list)
    end: int = 0
    durable: int = -1  # source offset of the last committed checkpoint

    @property
    def stable_offset(self) -> int:
        """The start of the first open transaction, else the end."""
        return min((batch.first_offset for batch in self.batches if batch.state == "open"), default=self.end)

    def append(self, raw: bytes, count: int, state: str) -> StoredBatch:
        """Store a batch of ``count`` records at the end."""
        stored = StoredBatch(self.end, self.end + count - 1, placed(raw, self.end), state)
        self.batches.append(stored)
        self.end += count
        return stored

    def fetch(self, offset: int, max_batches: int) -> tuple[bytes, list[tuple[int, int]]]:
        """Return committed and aborted batches from ``offset`` on, and the aborted transactions among them."""
        stable = self.stable_offset
        batches = [batch for batch in self.batches if offset <= batch.last_offset < stable][:max_batches]
        aborted = [(end.producer_id, end.first_offset) for end in self.aborted if end.last_offset >= offset]
        return b"".join(batch.raw for batch in batches), aborted

    def compact(self, draw: random.Random) -> None:
        """Keep each key's last committed record, in the log up to some batch; aborted records go as well."""
        clean = [batch for batch in self.batches if batch.last_offset < self.stable_offset]
        clean = clean[: draw.randint(0, len(clean))]
        last = {
            record.key: batch.first_offset + record.delta
            for batch in self.batches
            if batch.state == "committed"
            for record in records_in(batch.raw)
        }
        for batch in clean:
            if batch.state == "aborted":
                self.batches.remove(batch)
            elif batch.state == "committed":
                records = records_in(batch.raw)
                kept = [record for record in records if last[record.key] == batch.first_offset + record.delta]
                if not kept:
                    self.batches.remove(batch)
                elif len(kept) < len(records):
                    batch.raw = thinned(batch.raw, kept)


class Cluster:
    """All topics of the cluster. ``seen`` counts what happened, by name."""

    def __init__(self, source: SourceTopic, partitions: int) -> None:
        self.source = source
        self.state = [StateLog() for _ in range(partitions)]
        self.committed = [0] * partitions  # the group's next offsets
        self.decisions: list[tuple[bytes | None, bytes | None, dict[str, bytes]]] = []  # key, value, headers
        self.letters: list[bytes] = []
        self.overrides: list[Override] = []
        self.seen: Counter[str] = Counter()
        self._transactional: dict[str, Transactional] = {}

    def take_over(self, transactional_id: str, partition: int) -> tuple[int, int]:
        """Fence earlier writers, abort their open transaction, and return the producer id and epoch of the new one."""
        known = self._transactional.setdefault(transactional_id, Transactional(1000 + partition))
        known.epoch += 1
        if known.open:
            self._end(known, partition, ABORT)
            self.seen["transactions aborted by a new writer"] += 1
        return known.producer_id, known.epoch

    def write(self, transactional_id: str, epoch: int, partition: int, batch: ColumnBatch) -> int:
        """Append a batch to the writer's open transaction; return its first offset."""
        known = self._current(transactional_id, epoch)
        stored = self.state[partition].append(batch._build(), batch.record_count(), "open")
        known.open.append(stored)
        return stored.first_offset

    def end(self, transactional_id: str, epoch: int, partition: int, kind: int) -> None:
        """End the writer's transaction; ``kind`` is COMMIT or ABORT."""
        known = self._current(transactional_id, epoch)
        self.seen["commits" if kind == COMMIT else "aborts"] += 1
        if known.open:
            self._end(known, partition, kind)

    def _current(self, transactional_id: str, epoch: int) -> Transactional:
        known = self._transactional[transactional_id]
        if epoch != known.epoch:
            self.seen["fenced"] += 1
            raise ProducerFenced
        return known

    def _end(self, known: Transactional, partition: int, kind: int) -> None:
        log = self.state[partition]
        for batch in known.open:
            batch.state = "committed" if kind == COMMIT else "aborted"
        end = log.append(marker(kind, known.producer_id, known.epoch), 1, "marker")
        if kind == ABORT:
            log.aborted.append(Aborted(known.producer_id, known.open[0].first_offset, end.last_offset))
        else:
            self._set_durable(partition, known.open)
        known.open = []

    def _set_durable(self, partition: int, batches: list[StoredBatch]) -> None:
        sites = [record.value for batch in batches for record in records_in(batch.raw) if record.key == SITE_KEY]
        assert len(sites) == 1, f"partition {partition}: a checkpoint has {len(sites)} site records"
        applied = int.from_bytes((sites[0] or b"")[APPLIED_AT : APPLIED_AT + 8], "little", signed=True)
        assert applied >= self.state[partition].durable, f"partition {partition}: durable state goes back to {applied}"
        self.state[partition].durable = applied

    def commit_offset(self, partition: int, offset: int) -> None:
        """Store the group's next offset of a partition."""
        durable = self.state[partition].durable
        assert offset <= durable + 1, f"partition {partition}: commit of {offset}, durable is {durable}"
        self.committed[partition] = offset
        self.seen["offset commits"] += 1
