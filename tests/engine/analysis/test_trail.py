"""Checkpoints are read one by one, compacted or not, and the first that isn't what the events lead to is named."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engine.analysis.trail import Trail
from engine.state.encode import Cut, take_cut
from engine.state.history import Checkpoint, Checkpoints
from engine.state.records import Fetch
from tests.engine.state.test_encode import feed, values_of
from tests.support.fetches import Sent, by_aiokafka
from tests.support.runs import fresh, wire_of
from tests.support.sequences import START_MS, Event
from topics.columns.batches import BATCH, empty_records, find_batches, read_records, unpack
from topics.columns.scan import ACCEPTED
from topics.keys import IPV4_TAG, network_text

KEY, OTHER = IPV4_TAG + 7, IPV4_TAG + 8
EACH = 10


def events_of(count: int) -> list[Event]:
    """Two senders in turn, a message or three every ten seconds."""
    keys = (KEY, OTHER)
    return [Event(i, START_MS + 10_000 * i, -1, keys[i % 2], 1 + i % 3, ACCEPTED) for i in range(count)]


def fetch_of(octets: bytes) -> Fetch:
    view, room = np.frombuffer(octets, np.uint8), np.zeros(8192, BATCH)
    count, _ = find_batches(view, 0, True, room)
    arena = unpack(octets, room[:count], np.empty(1 << 20, np.uint8)).view()
    arena.flags.writeable = False
    records = empty_records(int(room["records"][:count].sum()))
    read = read_records(view, arena, room[:count], 0, records)
    return Fetch(view, arena, records).some(slice(read))


def written(events: list[Event]) -> list[Cut]:
    """A checkpoint every ten events."""
    partition, cuts = fresh(), [take_cut(fresh(), 0)]
    for first in range(0, len(events), EACH):
        feed(partition, events[first : first + EACH])
        cuts.append(take_cut(partition, 1))
    return cuts


def compared(checkpoints: Iterable[Checkpoint], events: list[Event]) -> Trail:
    partition = fresh()
    trail, done = Trail(partition, KEY), 0
    for checkpoint in checkpoints:
        feed(partition, events[done : checkpoint.offset + 1])
        done = checkpoint.offset + 1
        trail.compare(checkpoint)
    return trail


def read(cuts: list[Cut]) -> list[Checkpoint]:
    reader = Checkpoints()
    return [checkpoint for cut in cuts for checkpoint in reader.add(fetch_of(wire_of([cut])))]


def test_checkpoints_are_those_that_were_written_whatever_the_fetches() -> None:
    cuts = written(events_of(40))
    apart, together = read(cuts), list(Checkpoints().add(fetch_of(wire_of(cuts))))
    assert [found.offset for found in apart] == [found.offset for found in together] == [-1, 9, 19, 29, 39]
    assert [len(found.rows) for found in apart] == [0, 2, 2, 2, 2]
    assert all((one.rows == other.rows).all() for one, other in zip(apart, together, strict=True))


def test_the_same_events_are_never_apart() -> None:
    events = events_of(40)
    trail = compared(read(written(events)), events)
    assert (trail.compared, trail.upto, trail.own, trail.rest) == (5, 39, None, None)


def test_a_changed_event_lies_between_two_checkpoints() -> None:
    events = events_of(40)
    checkpoints = read(written(events))
    events[24] = events[24]._replace(messages=events[24].messages + 5)
    own = compared(checkpoints, events).own
    assert own is not None
    assert (own.after, own.offset, own.events, own.accepted, own.rejected) == (19, 29, 0, 5, 0)
    assert own.change is not None
    assert own.change.messages == 5
    assert abs(own.change.at_ms - events[24].ts_ms) <= own.change.give_ms < 5_000


def test_events_in_another_order_change_no_number_of_messages() -> None:
    events = events_of(40)
    checkpoints = read(written(events))
    events[22], events[28] = events[28]._replace(offset=22), events[22]._replace(offset=28)
    own = compared(checkpoints, events).own
    assert own is not None
    assert (own.after, own.offset, own.accepted, own.change) == (19, 29, 0, None)


def test_another_senders_event_is_told_from_its_own() -> None:
    events = events_of(40)
    checkpoints = read(written(events))
    events[15] = events[15]._replace(messages=9)
    trail = compared(checkpoints, events)
    assert trail.own is None
    assert trail.rest is not None
    assert (trail.rest.after, trail.rest.offset, trail.rest.networks) == (9, 19, (network_text(OTHER),))


def test_compaction_leaves_the_last_row_of_a_sender_and_what_it_says_is_right() -> None:
    events = events_of(40)
    cuts = written(events)
    older: dict[bytes | None, bytes | None] = {}
    for key, value in (record for cut in cuts[:4] for record in values_of(cut)):
        older.pop(key, None)
        older[key] = value
    log = by_aiokafka([Sent(0, key, value) for key, value in [*older.items(), *values_of(cuts[4])]])
    checkpoints = list(Checkpoints().add(fetch_of(log)))
    assert [found.offset for found in checkpoints] == [29, 39]
    assert compared(checkpoints, events).rest is None
    events[4] = events[4]._replace(messages=9)
    own = compared(checkpoints, events).own
    assert own is not None
    assert (own.after, own.offset) == (-1, 29)
