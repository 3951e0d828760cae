"""Compile every kernel or load it from the cache, so that a worker that reports ready doesn't compile at its first event.

The first run on a machine compiles for about half a minute; later ones load in a second or two.
"""

from __future__ import annotations

import time

import numpy as np

from engine.detector.eviction import sweep
from engine.detector.throttle import Policy
from engine.state.encode import cut_state
from engine.state.inspect import row_of, standing
from engine.state.partition import Partition
from engine.state.restore import Restoration
from engine.state.top_senders import top_senders
from topics.columns.batches import BATCH, empty_records, find_batches, read_events, read_records, unpack
from topics.columns.batchwrite import ColumnBatch, field
from topics.columns.scan import empty_columns, event_times, scan_lines
from topics.keys import key_of

EVENT_KEY = key_of("192.0.2.1")
EVENT = b'{"ts":1700000000000,"ip":"192.0.2.1"}'


def precompile() -> float:
    """Run one event and one checkpoint through all kernels and return the seconds that it took."""
    started_s = time.perf_counter()
    record = field(b"\0\0\0" + field(b"192.0.2.1") + field(EVENT) + b"\0")
    batch, columns = ColumnBatch(record, 1, (0, 0))._build(), empty_columns(1)
    scan_lines(np.frombuffer(EVENT + b"\n", np.uint8), columns)
    event_times(columns, 0, 1, 0)
    partition = Partition(Policy(1.0, 0, 0, 1), 1024)
    view, arena, batches = _unpacked(batch)
    partition.apply(columns, 0, read_events(view, arena, batches, 0, columns))
    top_senders(partition, 1)
    standing(partition, row_of(partition, EVENT_KEY), 0)
    sweep(partition.state)
    partition.state.tombstones[0], partition.state.cursor["tombstones"] = 1, 1
    cut = cut_state(partition, 1)
    restoration = Restoration(Partition(partition.policy, 1024))
    for section in cut.sections:
        section_batch = ColumnBatch(section.records, section.count, (0, 0), transactional=True)._build()
        view, arena, batches = _unpacked(section_batch)
        records = empty_records(section.count)
        read_records(view, arena, batches, 0, records)
        restoration.add(view, arena, records)
    restoration.finish()
    assert restoration.partition.keys == partition.keys == 1
    return time.perf_counter() - started_s


def _unpacked(batch: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    view, batches = np.frombuffer(batch, np.uint8), np.zeros(1, BATCH)
    find_batches(view, 0, True, batches)
    arena = unpack(batch, batches, np.empty(1 << 16, np.uint8)).view()
    arena.flags.writeable = False
    return view, arena, batches
