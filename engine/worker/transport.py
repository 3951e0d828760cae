"""The Faust transport that delivers blocks: a message is a fetched block, its offset the block's last.

Overridden, and why:
- the consumer thread builds a `BlockConsumer`, and passes each fetched block to the app's `Prefetcher`;
- `_new_offset`: only offsets that a checkpoint has made durable are committed, never merely processed ones. So a commit can't
  pass work in flight, and needs no ack. Faust's stream iterator (Cython) records acks anyway; they are discarded here;
- `_add_gap`: the offsets inside a block are not gaps in the sequence of messages;
- `on_buffer_full`: Faust would stop fetching a partition while few blocks wait, and sleep a second once it has stopped all
  of them (measured: half of the rate);
- `perform_seek`: reading begins after the last offset that each state has applied. The group's committed offset alone would
  skip events when the changelog has lost their effects;
- `_commit_offsets`: the recorded offsets advance only if the commit succeeded;
- `commit`: one under way may have begun before the last checkpoint, so it doesn't replace this one;
- revocation: a checkpoint and a commit come first, so that the next owner starts where this one ended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from engine.kafka.blocks import BlockConsumer
from engine.kafka.clients import rebound

FETCH_WAIT_MS = 100


class Shortened(Exception):
    """A partition of the source ends before the state's applied offset: it is not the topic that the state was built from."""

    def __init__(self, tp: TP, end: int, position: int) -> None:
        super().__init__(
            f"{tp.topic}, partition {tp.partition}, ends at offset {end}, but its first {position} are in the state: the topic "
            "was created again or has lost events; delete the state topic too, to start from nothing, or set another prefix"
        )


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread around a consumer of blocks, with our client options. It reads events ahead."""

    app: Any

    def _create_worker_consumer(self, transport: driver.Transport) -> BlockConsumer:
        ours = {**self.app.client_options, "fetch_max_wait_ms": FETCH_WAIT_MS}

        def create(*topics: str, **options: Any) -> BlockConsumer:
            return BlockConsumer(*topics, **{**options, **ours})

        stock = rebound(
            driver.AIOKafkaConsumerThread._create_worker_consumer, aiokafka=SimpleNamespace(AIOKafkaConsumer=create)
        )
        consumer: BlockConsumer = stock(self, transport)
        return consumer

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: Any,
        timeout: float | None = None,  # noqa: ASYNC109 (Faust's name)
        max_records: int | None = None,
    ) -> Any:
        fetched = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        submit = self.app.prefetcher.submit
        return {
            tp: [dataclasses.replace(record, value=submit(record.value)) for record in records]
            for tp, records in fetched.items()
        }


class Consumer(driver.Consumer):
    """Faust's consumer; commits follow `app.shards`."""

    app: Any

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        for tp in self.app.shards.assigned():
            if topics is None or tp in topics or tp.topic in topics:
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        self._acked.pop(tp, None)
        self._acked_index.pop(tp, None)
        durable = self.app.shards.durable_offset(tp)
        return None if durable is None else durable + 1

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: a full stream makes the fetcher wait, which is the only back-pressure needed."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        return None

    async def perform_seek(self) -> None:
        """Seek to the committed offsets; once the states are restored, seek to the position after each of them."""
        await super().perform_seek()
        positions = await self.app.shards.positions()
        ends = await self.highwaters(*positions)
        for tp, position in positions.items():
            if ends[tp] < position:
                self.app.fail(Shortened(tp, ends[tp], position))
                return
        await self.seek_wait(positions)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit the durable offsets, after a commit under way."""
        await self.maybe_wait_for_commit_to_finish()
        return bool(await super().commit(topics, start_new_transaction))

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        before = {tp: self._committed_offset[tp] for tp in offsets}
        committed = await super()._commit_offsets(offsets, start_new_transaction)
        if not committed:
            self._committed_offset.update(before)
        return committed

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Make everything durable, commit, then drop the revoked partitions."""
        await self.app.shards.close(revoked)
        await self.commit()
        await super().on_partitions_revoked(revoked)
        await self.app.shards.drop(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Open the shards of assigned partitions, and follow those that this worker is a standby for."""
        self.app.shards.assign(assigned, self.app.assignor.assigned_standbys())
        await super().on_partitions_assigned(assigned, generation_id)


class Transport(driver.Transport):
    """The transport of the engine's Faust app."""

    Consumer: ClassVar[Any] = Consumer
