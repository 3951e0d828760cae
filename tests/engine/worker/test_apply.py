"""Blocks through the applier: applied, published and buried, with a publisher that records."""

from __future__ import annotations

import asyncio

import pytest

from engine.detector.throttle import Policy
from engine.state.partition import Partition
from engine.worker.apply import MissingOffsets
from tests.oracles.records import CODECS
from tests.support.bench import COMPOSER, EVENTS, NUMBER, ROWS, Bench, RecordingPublisher, batch_of, event_line
from tests.support.fetches import Sent, at_offset, by_aiokafka, section_batch
from tests.support.runs import rows_of, state_of
from tests.support.sequences import DAY_MS, START_MS, columns_of
from topics.decisions import Source, encode_decision


def applied_directly() -> tuple[list[bytes], tuple[bytes, ...]]:
    partition = Partition(Policy(1.0, DAY_MS, NUMBER, 8), ROWS)
    verdicts = partition.apply(columns_of(EVENTS), 0, len(EVENTS))
    return [encode_decision(COMPOSER.decision(verdict, NUMBER)) for verdict in verdicts], state_of(partition)


@pytest.mark.parametrize("codec", CODECS)
async def test_blocks_of_batches_give_the_decisions_and_state_of_their_events(codec: str) -> None:
    bench = Bench()
    batches = [batch_of(EVENTS[at : at + 97], codec) for at in range(0, len(EVENTS), 97)]
    for at in range(0, len(batches), 5):
        await bench.apply(b"".join(batches[at : at + 5]), 97 * at)

    assert (bench.published, state_of(bench.partition)) == applied_directly()
    assert (bench.applier.flow.records, bench.publisher.buried) == (len(EVENTS), [])
    assert bench.applier.flow.throttles + bench.applier.flow.releases == len(bench.published) > 50


async def test_overlapping_blocks_are_applied_once() -> None:
    bench = Bench()
    for first, last in ((0, 1000), (500, 1500), (0, 400), (1400, 3000), (1400, 3000)):
        await bench.apply(batch_of(EVENTS[first:last]), first)

    assert (bench.published, state_of(bench.partition)) == applied_directly()


async def test_records_before_the_first_offset_are_ignored() -> None:
    bench = Bench()
    await bench.apply(batch_of(EVENTS[:100]), 40)

    assert int(bench.partition.state.site["events"][0]) == 60


async def test_poison_is_buried_with_its_reason_and_the_rest_is_applied() -> None:
    bench = Bench()
    good = event_line(EVENTS[0])
    values = [good, b"{}", None, b"\xff", good.replace(b'"ts"', b'"\\u0074s"'), good]
    raw = at_offset(by_aiokafka([Sent(START_MS, b"k", value) for value in values]), 100)
    await bench.apply(raw, 100)

    assert bench.publisher.buried == [
        ("ts missing", Source("connections", NUMBER, 101), b"{}"),
        ("null value", Source("connections", NUMBER, 102), b""),
        ("not JSON", Source("connections", NUMBER, 103), b"\xff"),
    ]
    site = bench.partition.state.site[0]
    assert (site["events"], site["poison"], site["applied_offset"], bench.applier.flow.slow) == (3, 3, 105, 3)
    await bench.apply(raw + batch_of([EVENTS[0]._replace(offset=106)]), 100)
    assert (len(bench.publisher.buried), int(site["poison"]), int(site["events"])) == (3, 3, 4)


async def test_batch_that_cannot_be_unpacked_is_buried_whole_and_skipped() -> None:
    bench = Bench()
    damaged = at_offset(section_batch(b"\xff" * 30, 5, codec=4), 10)
    await bench.apply(batch_of([EVENTS[0]._replace(offset=9)]) + damaged + batch_of([EVENTS[1]._replace(offset=15)]), 9)
    assert bench.publisher.buried == [
        ("batch of 5 records can't be unpacked", Source("connections", NUMBER, 10), b"\xff" * 30)
    ]
    site = bench.partition.state.site[0]
    assert (site["events"], site["poison"], site["applied_offset"]) == (2, 5, 15)


async def test_block_of_a_partition_without_shard_is_ignored() -> None:
    bench = Bench()
    bench.shards.only = None
    await bench.apply(batch_of(EVENTS[:10]))

    assert (bench.applier.flow.blocks, len(rows_of(bench.partition))) == (0, 0)


async def test_block_for_a_closing_shard_is_ignored() -> None:
    bench = Bench()
    shard = bench.shards.only
    assert shard is not None
    async with shard.applying:
        waiting = asyncio.create_task(bench.apply(batch_of(EVENTS[:10])))
        await asyncio.sleep(0.01)
        shard.closing = True
    await waiting

    assert bench.partition.applied_offset == -1


async def test_offsets_deleted_by_retention_are_counted() -> None:
    bench = Bench(first_left=50)
    await bench.apply(batch_of(EVENTS[:10]))
    await bench.apply(batch_of(EVENTS[50:60]), 50)

    site = bench.partition.state.site[0]
    assert (bench.applier.flow.deleted, int(site["events"])) == (40, 20)


async def test_offsets_missing_though_the_topic_has_them_are_an_error() -> None:
    bench = Bench(first_left=49)
    await bench.apply(batch_of(EVENTS[:10]))
    with pytest.raises(MissingOffsets, match="offsets 10 to 49 were not delivered"):
        await bench.apply(batch_of(EVENTS[50:60]), 50)
    assert bench.partition.applied_offset == 9


async def test_shard_is_locked_until_the_last_decision_is_queued() -> None:
    waiting = asyncio.Event()
    bench = Bench(RecordingPublisher(waiting.wait))
    task = asyncio.create_task(bench.apply(batch_of(EVENTS)))
    await asyncio.sleep(0.05)

    assert bench.shards.only is not None
    assert bench.partition.applied_offset == EVENTS[-1].offset
    assert bench.shards.only.applying.locked()
    waiting.set()
    await task
    assert not bench.shards.only.applying.locked()
    assert len(bench.published) > 50
