"""The Faust transport that delivers blocks: a message is a fetched block, its offset the block's last.

What is overridden, and why:
- the consumer thread builds an `EventConsumer`;
- `_new_offset`: what may be committed is what a checkpoint has made durable, never what was merely processed. That also
  keeps a commit from passing work in flight, and needs no ack: the stream iterator (Cython) records acks by itself, here
  they are thrown away so that they don't pile up;
- `_add_gap`: the offsets inside a block are no gaps in the sequence of messages;
- `on_buffer_full`: Faust would stop fetching a partition while few blocks wait, and sleep a second once it has stopped
  them all (measured: half of the rate);
- `perform_seek`: reading begins behind what each state has applied. The group's committed offset alone would skip events
  when the changelog has lost what they led to;
- `_commit_offsets`: the books advance only if the commit did;
- `commit`: one that is under way may have been begun before the last checkpoint, so it is no reason to leave this one out;
- revocation: a checkpoint and a commit first, so that the next owner starts where this one ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from engine.kafka.resilient_clients import rebound
from engine.worker.prefetch import EventConsumer

FETCH_WAIT_MS = 100


class Shortened(Exception):
    """A partition of the source ends before what its state has applied: it isn't the topic that the state was built from."""

    def __init__(self, tp: TP, end: int, position: int) -> None:
        super().__init__(
            f"{tp.topic}, partition {tp.partition}, ends at offset {end}, but its first {position} are in the state: the topic "
            "was made again or has lost events; delete the state topic too, to start from nothing, or name another prefix"
        )


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread around a consumer that has events read ahead, and our client options."""

    app: Any

    def _create_worker_consumer(self, transport: driver.Transport) -> EventConsumer:
        ours = {**self.app.client_options, "fetch_max_wait_ms": FETCH_WAIT_MS}

        def create(*topics: str, **options: Any) -> EventConsumer:
            return EventConsumer(*topics, **{**options, **ours})

        stock = rebound(
            driver.AIOKafkaConsumerThread._create_worker_consumer, aiokafka=SimpleNamespace(AIOKafkaConsumer=create)
        )
        consumer: EventConsumer = stock(self, transport)
        return consumer


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
        """Nothing: a full stream makes the fetcher wait, and that is all the back-pressure there has to be."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        return None

    async def perform_seek(self) -> None:
        """To the committed offsets, then, as soon as the states are restored, to where each of them goes on."""
        await super().perform_seek()
        positions = await self.app.shards.positions()
        ends = await self.highwaters(*positions)
        for tp, position in positions.items():
            if ends[tp] < position:
                self.app.fail(Shortened(tp, ends[tp], position))
                return
        await self.seek_wait(positions)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """What is durable now, after a commit under way."""
        await self.maybe_wait_for_commit_to_finish()
        return bool(await super().commit(topics, start_new_transaction))

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        books = {tp: self._committed_offset[tp] for tp in offsets}
        committed = await super()._commit_offsets(offsets, start_new_transaction)
        if not committed:
            self._committed_offset.update(books)
        return committed

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Make durable, commit, then forget what is taken away."""
        await self.app.shards.close(revoked)
        await self.commit()
        await super().on_partitions_revoked(revoked)
        await self.app.shards.drop(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Open the shards of what has come, and follow what Faust's assignor has made this worker a standby for."""
        self.app.shards.assign(assigned, self.app.assignor.assigned_standbys())
        await super().on_partitions_assigned(assigned, generation_id)


class Transport(driver.Transport):
    """The transport of the engine's Faust app."""

    Consumer: ClassVar[Any] = Consumer
