"""Batches inside and outside of transactions, and the control batches that end one, as a fetch contains them."""

from __future__ import annotations

import struct

from aiokafka import TopicPartition

from tests.support.fetches import Sent, at_offset, by_aiokafka, record_of, resealed, section_batch
from topics.columns.batches import CONTROL, TRANSACTIONAL

TP = TopicPartition("connections", 3)
ABORT, COMMIT = 0, 1


def batch_at(offset: int, count: int = 3, *, producer: int = -1, codec: str = "none") -> bytes:
    """Return a batch of ``count`` records, in a transaction if a producer is given."""
    sent = [Sent(1000 + i, b"k%d" % i, b"v%d" % (offset + i)) for i in range(count)]
    return at_offset(by_aiokafka(sent, codec, producer_id=producer, is_transactional=int(producer >= 0)), offset)


def marker(offset: int, kind: int, producer: int) -> bytes:
    """Return the control batch that ends a transaction; ``kind`` is ABORT or COMMIT."""
    record = record_of(0, Sent(1000, struct.pack(">hh", 0, kind), bytes(6)), 1000)
    batch = resealed(section_batch(record, 1), attributes=CONTROL | TRANSACTIONAL, producer_id=producer)
    return at_offset(batch, offset)
