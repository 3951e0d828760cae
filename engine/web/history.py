"""A sender's recent events, read back from the end of its partition of the topic, and their timeline for the picture.

Bounded: at most `MOST_EVENTS` records of the partition, as long as `LONGEST_S` allows, newest first in growing pieces; the
reading is done in a thread. What was counted follows from the events and from the state's counters now, which fix what was
left of older ones; expectation and limit are those that hold now. `tidegate plot` replays everything instead, and is exact.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from aiokafka import TopicPartition

from engine.analysis.collateral import Ledger
from engine.analysis.explanation import newcomers_peak
from engine.analysis.timeline import Samples, Timeline
from engine.config.load import Settings
from engine.detector.constants import HOUR_MS, REJECTED_WEIGHT, SCALE_MS, SCALES
from engine.kafka.blocks import BlockConsumer
from engine.kafka.decompress import Workspace
from engine.state.inspect import STANDING, row_of, standing
from engine.state.partition import Partition
from engine.worker.cluster_reader import ready_events
from topics.columns.scan import DEFERRED, REJECTED, EventColumns
from topics.contracts import CONNECTIONS
from topics.decisions import HOLDING, Decision
from topics.keys import network_text

MOST_EVENTS = 2_000_000
FIRST_PIECE = 50_000
LONGEST_S = 4.0
MOST_OWN = 20_000
FETCH_OCTETS = 1 << 20
FETCH_WAIT_MS = 200
WINDOW_MS = 24 * HOUR_MS
TRUSTED_FADING = 3.0  # time constants over which what is left of older events can be told from the counters now


class Past(NamedTuple):
    """A sender's events in order. ``since_ms``: from when on the topic was read."""

    ts_ms: npt.NDArray[np.int64]
    messages: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.uint8]
    since_ms: int


async def past_of(settings: Settings, number: int, key: int, now_ms: int) -> Past:
    """The events of ``key`` on partition ``number`` within the last day, as far as the bounds allow."""
    tp, deadline_s = TopicPartition(settings.topics.prefix + CONNECTIONS.name, number), time.monotonic() + LONGEST_S
    consumer = BlockConsumer(max_partition_fetch_bytes=FETCH_OCTETS, **settings.kafka.client_options())
    await consumer.start()
    try:
        consumer.assign([tp])
        least = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        found = (await consumer.offsets_for_times({tp: now_ms - WINDOW_MS}))[tp]
        first = max(least, end if found is None else found.offset, end - MOST_EVENTS)
        since_ms = now_ms - WINDOW_MS
        pieces: list[Past] = []
        piece, upper = FIRST_PIECE, end
        while upper > first and time.monotonic() < deadline_s and sum(len(one.ts_ms) for one in pieces) < MOST_OWN:
            lower = max(first, upper - piece)
            pieces.insert(0, await _piece(consumer, tp, (lower, upper), key))
            piece, upper = 2 * piece, lower
        if upper > max(least, end if found is None else found.offset):
            since_ms = pieces[0].since_ms if pieces else now_ms
    finally:
        await consumer.stop()
    joined = _joined(pieces, since_ms)
    order = np.argsort(joined.ts_ms, kind="stable")[-MOST_OWN:]
    return Past(joined.ts_ms[order], joined.messages[order], joined.outcome[order], since_ms)


def _joined(parts: list[Past], since_ms: int) -> Past:
    """Parts one behind the other."""
    nothing = Past(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8), 0)
    parts = [nothing, *parts]
    return Past(
        np.concatenate([part.ts_ms for part in parts]),
        np.concatenate([part.messages for part in parts]),
        np.concatenate([part.outcome for part in parts]),
        since_ms,
    )


async def _piece(consumer: BlockConsumer, tp: TopicPartition, span: tuple[int, int], key: int) -> Past:
    """The events of ``key`` from offset ``span[0]`` to before ``span[1]``; ``since_ms``: the first event's time of anybody."""
    lower, upper = span
    consumer.seek(tp, lower)
    parts: list[Past] = []
    workspace, since_ms = Workspace(), 0
    while await consumer.position(tp) < upper:
        for fetched in (await consumer.getmany(tp, timeout_ms=FETCH_WAIT_MS)).values():
            for record in fetched:
                events = await asyncio.to_thread(ready_events, record.value, workspace)
                since_ms = since_ms or (int(events.ts_ms[0]) if len(events.ts_ms) else 0)
                parts.append(_own(events, key, upper))
    return _joined(parts, since_ms)


def _own(events: EventColumns, key: int, upper: int) -> Past:
    own = np.flatnonzero((events.key == np.uint64(key)) & (events.offset < upper))
    ts_ms, messages = events.ts_ms[own].astype(np.int64), events.messages[own].astype(np.int64)
    return Past(ts_ms, messages, events.outcome[own].astype(np.uint8), 0)


def timeline_of(partition: Partition, key: int, past: Past, decisions: list[Decision], now_ms: int) -> Timeline:
    """What the picture is drawn of; its samples end with one at ``now_ms``."""
    number = row_of(partition, key)
    now = standing(partition, number, now_ms) if number >= 0 else np.zeros(1, STANDING)
    accepted = number >= 0 and int(partition.state.rows[number]["accepted"]) > 0
    weight = np.where(past.outcome == DEFERRED, 0, past.messages).astype(np.float64)
    if not accepted:
        weight = np.where(past.outcome == REJECTED, REJECTED_WEIGHT * weight, weight)
    stamps = np.append(past.ts_ms, now_ms)
    found = np.repeat(now, len(stamps))
    for scale in range(SCALES):
        found["counter"][:, scale] = counts(stamps, weight, SCALE_MS[scale], float(now["counter"][0, scale]))
    messages = np.append(np.where(past.outcome == DEFERRED, 0, past.messages), 0)
    ledger = Ledger(HOLDING)
    ledger.note([decision for decision in decisions if decision.holds])
    network = network_text(key)
    samples = Samples(stamps, messages, np.append(past.outcome, DEFERRED).astype(np.uint8), found)
    own = [decision for decision in decisions if decision.network == network]
    return Timeline(network, samples, own, ledger.spells.get(network, []), newcomers_peak(partition))


def counts(
    stamps: npt.NDArray[np.int64], weight: npt.NDArray[np.float64], tau_ms: int, now: float
) -> npt.NDArray[np.float64]:
    """A leaky count after each event (``weight`` of the i-th at ``stamps[i]``), and at the last stamp, where it is ``now``.
    What came before the first event is what makes the end right, if that isn't too long ago to tell."""
    faded = math.exp(-(int(stamps[-1]) - int(stamps[0])) / tau_ms)
    told = np.zeros(len(stamps))
    count, last_ms = 0.0, int(stamps[0])
    for i, (at_ms, amount) in enumerate(zip(stamps.tolist(), [*weight.tolist(), 0.0], strict=True)):
        count, last_ms = count * math.exp(-max(0, at_ms - last_ms) / tau_ms) + amount, at_ms
        told[i] = count
    if faded > math.exp(-TRUSTED_FADING):
        before = max(0.0, (now - told[-1]) / faded)
        told += before * np.exp(-(stamps - stamps[0]) / tau_ms)
    told[-1] = now
    return told
