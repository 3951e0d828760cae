"""A sender's recent events, read back from the end of its partition, and the timeline that the page plots.

Limits: at most `MAX_EVENTS` records of the partition and `MAX_OWN` of the sender, for at most `TIMEOUT_S`, newest first in
growing pieces; parsing runs in a thread. Counts follow from these events and the current counters, which determine the rest
of the older ones. Expected values and limits are today's for the whole plot. Exact, but slow: `tidegate plot`, which
replays every event.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from aiokafka import TopicPartition

from engine.analysis.collateral import Collateral
from engine.analysis.explanation import newcomers_peak
from engine.analysis.timeline import SenderSamples, SenderTimeline
from engine.config.load import Settings
from engine.detector.constants import HOUR_MS, REJECTED_WEIGHT, SCALE_MS, SCALES
from engine.kafka.blocks import BlockConsumer
from engine.kafka.decompress import Workspace
from engine.state.inspect import STANDING, row_of, standing
from engine.state.partition import Partition
from engine.worker.cluster_reader import ready_events
from topics.columns.scan import DEFERRED, REJECTED, EventColumns
from topics.contracts import CONNECTIONS
from topics.decisions import THROTTLING, Decision
from topics.networks import network_text

MAX_EVENTS = 2_000_000
FIRST_PIECE = 50_000
TIMEOUT_S = 4.0
MAX_OWN = 20_000
FETCH_BYTES = 1 << 20
FETCH_WAIT_MS = 200
WINDOW_MS = 24 * HOUR_MS
MAX_DECAY = 3.0  # time constants over which the current counter still determines the decayed count of older events


class SenderEvents(NamedTuple):
    """A sender's events in time order, one entry of each array per event."""

    ts_ms: npt.NDArray[np.int64]
    messages: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.uint8]
    since_ms: int  # the topic was read from this event time on


async def read_events(settings: Settings, number: int, key: int, now_ms: int) -> SenderEvents:
    """Return the events of ``key`` on partition ``number`` within the last day, as far as the limits allow."""
    tp, deadline_s = TopicPartition(settings.topics.prefix + CONNECTIONS.name, number), time.monotonic() + TIMEOUT_S
    consumer = BlockConsumer(max_partition_fetch_bytes=FETCH_BYTES, **settings.kafka.client_options())
    await consumer.start()
    try:
        consumer.assign([tp])
        first_kept = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        in_window = (await consumer.offsets_for_times({tp: now_ms - WINDOW_MS}))[tp]
        wanted = max(first_kept, end if in_window is None else in_window.offset)
        first, since_ms = max(wanted, end - MAX_EVENTS), now_ms - WINDOW_MS
        pieces: list[SenderEvents] = []
        size, upper = FIRST_PIECE, end
        while upper > first and time.monotonic() < deadline_s and sum(len(piece.ts_ms) for piece in pieces) < MAX_OWN:
            lower = max(first, upper - size)
            pieces.insert(0, await _read_piece(consumer, tp, (lower, upper), key))
            size, upper = 2 * size, lower
        if upper > wanted:
            since_ms = pieces[0].since_ms if pieces else now_ms
    finally:
        await consumer.stop()
    joined = _joined(pieces, since_ms)
    order = np.argsort(joined.ts_ms, kind="stable")[-MAX_OWN:]
    return SenderEvents(joined.ts_ms[order], joined.messages[order], joined.outcome[order], since_ms)


def _joined(parts: list[SenderEvents], since_ms: int) -> SenderEvents:
    """Concatenate parts in the order given."""
    nothing = SenderEvents(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8), 0)
    parts = [nothing, *parts]
    return SenderEvents(
        np.concatenate([part.ts_ms for part in parts]),
        np.concatenate([part.messages for part in parts]),
        np.concatenate([part.outcome for part in parts]),
        since_ms,
    )


async def _read_piece(consumer: BlockConsumer, tp: TopicPartition, span: tuple[int, int], key: int) -> SenderEvents:
    """Return the events of ``key`` in [span[0], span[1]); ``since_ms`` is the time of the piece's first event of any sender."""
    lower, upper = span
    consumer.seek(tp, lower)
    parts: list[SenderEvents] = []
    workspace, since_ms = Workspace(), 0
    while await consumer.position(tp) < upper:
        for fetched in (await consumer.getmany(tp, timeout_ms=FETCH_WAIT_MS)).values():
            for record in fetched:
                events = await asyncio.to_thread(ready_events, record.value, workspace)
                since_ms = since_ms or (int(events.ts_ms[0]) if len(events.ts_ms) else 0)
                parts.append(_own(events, key, upper))
    return _joined(parts, since_ms)


def _own(events: EventColumns, key: int, upper: int) -> SenderEvents:
    own = np.flatnonzero((events.key == np.uint64(key)) & (events.offset < upper))
    ts_ms, messages = events.ts_ms[own].astype(np.int64), events.messages[own].astype(np.int64)
    return SenderEvents(ts_ms, messages, events.outcome[own].astype(np.uint8), 0)


def build_timeline(
    partition: Partition, key: int, events: SenderEvents, decisions: list[Decision], now_ms: int
) -> SenderTimeline:
    """Return the timeline to plot; its last sample is at ``now_ms``."""
    number = row_of(partition, key)
    now = standing(partition, number, now_ms) if number >= 0 else np.zeros(1, STANDING)
    accepted = number >= 0 and int(partition.state.rows[number]["accepted"]) > 0
    weight = np.where(events.outcome == DEFERRED, 0, events.messages).astype(np.float64)
    if not accepted:
        weight = np.where(events.outcome == REJECTED, REJECTED_WEIGHT * weight, weight)
    times_ms = np.append(events.ts_ms, now_ms)
    sampled = np.repeat(now, len(times_ms))
    for scale in range(SCALES):
        sampled["counter"][:, scale] = decayed_counts(
            times_ms, weight, SCALE_MS[scale], float(now["counter"][0, scale])
        )
    messages = np.append(np.where(events.outcome == DEFERRED, 0, events.messages), 0)
    collateral = Collateral(THROTTLING)
    collateral.add_decisions([decision for decision in decisions if decision.is_throttle])
    network = network_text(key)
    samples = SenderSamples(times_ms, messages, np.append(events.outcome, DEFERRED).astype(np.uint8), sampled)
    own = [decision for decision in decisions if decision.network == network]
    return SenderTimeline(
        network, samples, own, collateral.throttle_periods.get(network, []), newcomers_peak(partition)
    )


def decayed_counts(
    times_ms: npt.NDArray[np.int64], weight: npt.NDArray[np.float64], tau_ms: int, now: float
) -> npt.NDArray[np.float64]:
    """Return the decayed count after each event, and at the last time, where it is ``now``.

    ``weight[i]`` is counted at ``times_ms[i]``. What the given events don't explain of ``now`` is attributed to older events,
    unless the first given event is more than `MAX_DECAY` time constants ago.
    """
    decay = math.exp(-(int(times_ms[-1]) - int(times_ms[0])) / tau_ms)
    counts = np.zeros(len(times_ms))
    count, last_ms = 0.0, int(times_ms[0])
    for i, (at_ms, amount) in enumerate(zip(times_ms.tolist(), [*weight.tolist(), 0.0], strict=True)):
        count, last_ms = count * math.exp(-max(0, at_ms - last_ms) / tau_ms) + amount, at_ms
        counts[i] = count
    if decay > math.exp(-MAX_DECAY):
        before = max(0.0, (now - counts[-1]) / decay)
        counts += before * np.exp(-(times_ms - times_ms[0]) / tau_ms)
    counts[-1] = now
    return counts
