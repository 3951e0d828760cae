"""Blocks through the engine: what is applied, published and buried, with a publisher that remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from engine.decisions.compose import Composer, Reply
from engine.detector.throttle import Policy
from engine.kafka.blocks import Block
from engine.state.partition import Partition
from engine.worker.apply import Engine, Missing
from engine.worker.prefetch import WORKSPACES, read
from engine.worker.publisher import Publisher
from engine.worker.shard import Shard
from engine.worker.shards import Shards
from tests.oracles.records import CODECS
from tests.support.fetches import Sent, at_offset, by_aiokafka, section_batch
from tests.support.kernels import octets_of
from tests.support.runs import rows_of, state_of
from tests.support.sequences import DAY_MS, OUTCOMES, START_MS, Event, columns_of, rich_sequence
from topics.columns.batches import BATCH, find_batches
from topics.decisions import POOL, PROBATION, VOLUME, Decision, Source, encode_decision
from topics.events import ConnectionEvent, encode_event
from topics.keys import key_text

COMPOSER = Composer(
    "connections", "sha256:00", Reply({VOLUME: "4.7.500", PROBATION: "4.7.501", POOL: "4.7.502"}, "{ip}")
)
ROWS, NUMBER = 4096, 2


def line_of(event: Event) -> bytes:
    ip = key_text(event.key).removesuffix("/64")
    messages = event.messages
    return encode_event(ConnectionEvent(event.ts_ms, ip, "", messages, messages, OUTCOMES[event.outcome]))


def consecutive(seed: int, count: int) -> list[Event]:
    """Events as a topic has them: offsets without holes, each record with a time of its own."""
    return [
        event._replace(offset=i, record_ms=event.ts_ms if event.record_ms < 0 else event.record_ms)
        for i, event in enumerate(rich_sequence(seed, count))
    ]


EVENTS = consecutive(5, 3000)


class Remembering:
    """A publisher that keeps what it is given. ``before``: awaited before a decision is taken."""

    def __init__(self, before: Any = None) -> None:
        self.decisions: list[Decision] = []
        self.buried: list[tuple[str, Source, bytes]] = []
        self._before = before

    async def publish(self, decision: Decision) -> None:
        if self._before is not None:
            await self._before()
        self.decisions.append(decision)

    async def bury(self, reason: str, source: Source, value: bytes) -> None:
        self.buried.append((reason, source, value))


class OneShard:
    """A worker's shards, of which there is one."""

    def __init__(self, partition: Partition) -> None:
        replica = cast(Any, SimpleNamespace(partition=partition))
        self.only: Shard | None = Shard(replica, cast(Any, None), cast(Any, None))

    async def shard(self, partition: int) -> Shard | None:
        return self.only

    def __iter__(self) -> Iterator[Shard]:
        return iter([self.only] if self.only else [])

    def restoring(self) -> dict[int, Shard]:
        return {}

    def standbys(self) -> list[Any]:
        return []


class Bench:
    """An engine with one partition, whose topic has nothing before ``first_left``."""

    def __init__(self, publisher: Remembering | None = None, first_left: int = 10**9) -> None:
        self.partition = Partition(Policy(1.0, DAY_MS, NUMBER, 8), ROWS)
        self.shards = OneShard(self.partition)
        self.publisher = publisher or Remembering()
        self._first_left = first_left
        self.engine = Engine(cast(Shards, self.shards), cast(Publisher, self.publisher), COMPOSER, self.first_offset)

    async def first_offset(self, partition: int) -> int:
        assert partition == NUMBER
        return self._first_left

    async def take(self, octets: bytes, first_offset: int = 0) -> None:
        await self.engine.take(read(block_of(octets, first_offset), WORKSPACES.take()))

    @property
    def published(self) -> list[bytes]:
        return [encode_decision(decision) for decision in self.publisher.decisions]


def block_of(octets: bytes, first_offset: int = 0) -> Block:
    found = np.zeros(256, BATCH)
    count, _ = find_batches(octets_of(octets), 0, True, found)
    last = int(found["last_offset"][count - 1])
    return Block("connections", NUMBER, first_offset, last, octets, found[:count])


def batch_of(events: list[Event], codec: str = "none") -> bytes:
    sent = [Sent(event.record_ms, None, line_of(event)) for event in events]
    return at_offset(by_aiokafka(sent, codec), events[0].offset)


def applied_directly() -> tuple[list[bytes], tuple[bytes, ...]]:
    partition = Partition(Policy(1.0, DAY_MS, NUMBER, 8), ROWS)
    verdicts = partition.apply(columns_of(EVENTS), 0, len(EVENTS))
    return [encode_decision(COMPOSER.decision(verdict, NUMBER)) for verdict in verdicts], state_of(partition)


@pytest.mark.parametrize("codec", CODECS)
async def test_blocks_of_batches_lead_to_what_their_events_lead_to(codec: str) -> None:
    bench = Bench()
    batches = [batch_of(EVENTS[at : at + 97], codec) for at in range(0, len(EVENTS), 97)]
    for at in range(0, len(batches), 5):
        await bench.take(b"".join(batches[at : at + 5]), 97 * at)
    assert (bench.published, state_of(bench.partition)) == applied_directly()
    assert (bench.engine.flow.records, bench.publisher.buried) == (len(EVENTS), [])
    assert bench.engine.flow.throttles + bench.engine.flow.releases == len(bench.published) > 50


async def test_blocks_that_overlap_are_applied_once() -> None:
    bench = Bench()
    for first, last in ((0, 1000), (500, 1500), (0, 400), (1400, 3000), (1400, 3000)):
        await bench.take(batch_of(EVENTS[first:last]), first)
    assert (bench.published, state_of(bench.partition)) == applied_directly()


async def test_a_block_begins_at_the_offset_that_was_asked_for() -> None:
    bench = Bench()
    await bench.take(batch_of(EVENTS[:100]), 40)
    assert int(bench.partition.state.site["events"][0]) == 60


async def test_poison_is_buried_with_its_reason_and_the_rest_goes_on() -> None:
    bench = Bench()
    good = line_of(EVENTS[0])
    values = [good, b"{}", None, b"\xff", good.replace(b'"ts"', b'"\\u0074s"'), good]
    octets = at_offset(by_aiokafka([Sent(START_MS, b"k", value) for value in values]), 100)
    await bench.take(octets, 100)
    assert bench.publisher.buried == [
        ("ts missing", Source("connections", NUMBER, 101), b"{}"),
        ("null value", Source("connections", NUMBER, 102), b""),
        ("not JSON", Source("connections", NUMBER, 103), b"\xff"),
    ]
    site = bench.partition.state.site[0]
    assert (site["events"], site["poison"], site["applied_offset"], bench.engine.flow.slow) == (3, 3, 105, 3)
    await bench.take(octets + batch_of([EVENTS[0]._replace(offset=106)]), 100)
    assert (len(bench.publisher.buried), int(site["poison"]), int(site["events"])) == (3, 3, 4)


async def test_a_batch_that_cannot_be_unpacked_is_buried_whole_and_passed_over() -> None:
    bench = Bench()
    damaged = at_offset(section_batch(b"\xff" * 30, 5, codec=4), 10)
    await bench.take(batch_of([EVENTS[0]._replace(offset=9)]) + damaged + batch_of([EVENTS[1]._replace(offset=15)]), 9)
    assert bench.publisher.buried == [
        ("batch of 5 records can't be unpacked", Source("connections", NUMBER, 10), b"\xff" * 30)
    ]
    site = bench.partition.state.site[0]
    assert (site["events"], site["poison"], site["applied_offset"]) == (2, 5, 15)


async def test_a_partition_that_is_gone_takes_nothing() -> None:
    bench = Bench()
    bench.shards.only = None
    await bench.take(batch_of(EVENTS[:10]))
    assert (bench.engine.flow.blocks, len(rows_of(bench.partition))) == (0, 0)


async def test_a_shard_that_closes_takes_nothing_more() -> None:
    bench = Bench()
    shard = bench.shards.only
    assert shard is not None
    async with shard.applying:
        waiting = asyncio.create_task(bench.take(batch_of(EVENTS[:10])))
        await asyncio.sleep(0.01)
        shard.closing = True
    await waiting
    assert bench.partition.applied_offset == -1


async def test_offsets_that_retention_took_are_counted() -> None:
    bench = Bench(first_left=50)
    await bench.take(batch_of(EVENTS[:10]))
    await bench.take(batch_of(EVENTS[50:60]), 50)
    site = bench.partition.state.site[0]
    assert (bench.engine.flow.deleted, int(site["events"])) == (40, 20)


async def test_offsets_that_are_missing_though_the_topic_has_them_end_the_worker() -> None:
    bench = Bench(first_left=49)
    await bench.take(batch_of(EVENTS[:10]))
    with pytest.raises(Missing, match="offsets 10 to 49 were not delivered"):
        await bench.take(batch_of(EVENTS[50:60]), 50)
    assert bench.partition.applied_offset == 9


async def test_no_checkpoint_comes_between_an_event_and_its_decision() -> None:
    waiting = asyncio.Event()
    bench = Bench(Remembering(waiting.wait))
    task = asyncio.create_task(bench.take(batch_of(EVENTS)))
    await asyncio.sleep(0.05)
    assert bench.shards.only is not None
    assert bench.partition.applied_offset == EVENTS[-1].offset
    assert bench.shards.only.applying.locked()
    waiting.set()
    await task
    assert not bench.shards.only.applying.locked()
    assert len(bench.published) > 50
