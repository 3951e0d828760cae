"""The one topic reader and the one retry loop: read topics in no consumer group, through failures of the cluster.

    async def read() -> None:
        async with TopicReader(["decisions"], client_options, positions) as reader:
            async for records in reader:
                apply(records)

    await retry(read, RateLimitedWarning(logger, "decisions can't be read, trying again: %s"))

A `TopicReader` is one connection; `positions` outlives it, so the next connection continues after the last applied batch.
Limits: `START_S` for a start, `ANSWER_S` for a request, `STOP_S` for a stop, `RETRY_S` between two attempts.
Rejected: aiokafka's own start and stop, which wait without a bound for a broker that doesn't answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Self, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from engine.kafka.clients import ExistingTopicsConsumer

logger = logging.getLogger(__name__)
T = TypeVar("T")
UNAVAILABLE = (KafkaError, OSError, TimeoutError)

RETRY_S = 1.0  # between two attempts
WARN_AGAIN_S = 60.0  # between two warnings with the same reason
START_S = 20.0
ANSWER_S = 10.0  # for one request
STOP_S = 1.0
STALL_S = 30.0  # without a record, before the end of a topic that is read to its end
POLL_MS = 200
MAX_RECORDS = 100  # per poll: an edge applies a hundred decisions in about 3 ms, between two replies to mail servers
BULK_RECORDS = 10_000  # per poll, for a reader that is awaited by all others


class RateLimitedWarning:
    """A warning about a failure that repeats: logged immediately for a new reason, else once per `WARN_AGAIN_S`."""

    def __init__(self, to: logging.Logger, text: str) -> None:
        """Log to ``to``. ``text`` has one %s, for the reason."""
        self._to, self._text = to, text
        self._reason, self._again_s = "", 0.0

    def add(self, error: BaseException, now_s: float) -> None:
        """Log ``error`` unless it was logged lately. ``now_s``: time of any clock, in seconds."""
        reason = str(error) or type(error).__name__
        if reason != self._reason or now_s >= self._again_s:
            self._to.warning(self._text, reason)
            self._reason, self._again_s = reason, now_s + WARN_AGAIN_S


class IgnoredRecords:
    """Counts the records that a reader ignores, and logs one of them per `WARN_AGAIN_S`."""

    def __init__(self, to: logging.Logger, what: str) -> None:
        """Log to ``to``. ``what``: the records as the log names them, such as "unreadable"."""
        self.count = 0
        self._to, self._what, self._again_s = to, what, 0.0

    def add(self, record: ConsumerRecord, error: BaseException, now_s: float) -> None:
        """Count a record. ``now_s``: time of any clock, in seconds."""
        self.count += 1
        if now_s >= self._again_s:
            self._again_s = now_s + WARN_AGAIN_S
            text = "%s %d: the record at offset %d is %s and ignored: %s; %d so far"
            self._to.warning(text, record.topic, record.partition, record.offset, self._what, error, self.count)


def is_unavailable(error: Exception) -> bool:
    """Return True if the cluster, or the connection to it, caused the error."""
    return isinstance(error, UNAVAILABLE)


async def retry(
    work: Callable[[], Awaitable[T]],
    warning: RateLimitedWarning | None = None,
    is_retried: Callable[[Exception], bool] = is_unavailable,
) -> T:
    """Call ``work`` until it returns, every `RETRY_S`, and return its result. Work without an end runs until cancelled.

    Retried on errors that pass ``is_retried``, and on a `CancelledError` of a task that was not cancelled: aiokafka lets the
    cancellation of its own tasks escape, which would otherwise end the caller.
    """
    while True:
        try:
            return await work()
        except Exception as error:
            if not is_retried(error):
                raise
            if warning is not None:
                warning.add(error, time.monotonic())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            logger.warning("a Kafka client cancelled its caller, trying again")
        await asyncio.sleep(RETRY_S)


async def stop_within(stopping: Coroutine[Any, Any, None], limit_s: float = STOP_S) -> None:
    """Await a client's ``stop`` for at most ``limit_s``; its failure is ignored."""
    task = asyncio.create_task(stopping)
    await asyncio.wait([task], timeout=limit_s)
    if not task.done():
        task.cancel()
    elif not task.cancelled():
        task.exception()


class TopicReader:
    """One connection that reads all partitions of ``sources`` (topics), or single partitions, from ``positions`` on.

    Use it as a context, then iterate over it once. It yields the records of one partition at a time, and an empty list after
    `POLL_MS` without records. ``positions`` (next offsets) is updated when the next batch is requested: a batch whose
    application failed is read again. A partition without a position is read from its beginning.

    With ``until_end`` the iteration ends once all records are read that existed at the start; else it has no end. Raises
    `UNAVAILABLE`: UnknownTopicOrPartitionError for a missing topic, KafkaTimeoutError after `STALL_S` without progress.
    """

    def __init__(
        self,
        sources: Sequence[str | TopicPartition],
        client_options: Mapping[str, Any],
        positions: dict[TopicPartition, int] | None = None,
        *,
        until_end: bool = False,
        max_records: int = MAX_RECORDS,
        consumer_class: type[AIOKafkaConsumer] = ExistingTopicsConsumer,
    ) -> None:
        self.positions = {} if positions is None else positions
        self.first: dict[TopicPartition, int] = {}  # offset of the first record that the cluster has
        self.ends: dict[TopicPartition, int] = {}  # offset after the last one, when this connection was made
        self.is_recreated = False  # a topic ended before its position, so all positions were dropped
        self._until_end = until_end
        self._assigned = [source for source in sources if isinstance(source, TopicPartition)]
        self._consumer = consumer_class(
            *(source for source in sources if isinstance(source, str)),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            **{"max_poll_records": max_records, **client_options},
        )

    async def __aenter__(self) -> Self:
        try:
            await asyncio.wait_for(self._consumer.start(), START_S)
            if self._assigned:
                self._consumer.assign(self._assigned)
            await self._seek()
        except BaseException:
            await stop_within(self._consumer.stop())
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_within(self._consumer.stop())

    async def __aiter__(self) -> AsyncIterator[list[ConsumerRecord]]:
        progress_s = time.monotonic()
        while not (self._until_end and self.is_caught_up):
            fetched = await self._consumer.getmany(timeout_ms=POLL_MS)
            for tp, records in fetched.items():
                yield records
                self.positions[tp] = await self._consumer.position(tp)  # returns without suspending
                await asyncio.sleep(0)
            if fetched:
                progress_s = time.monotonic()
                continue
            yield []
            for tp in self.ends:  # past transaction markers and compacted records, which come with no batch
                self.positions[tp] = await self._consumer.position(tp)
            if self._until_end and time.monotonic() - progress_s > STALL_S and not self.is_caught_up:
                raise KafkaTimeoutError(f"no records for {STALL_S:g} s before the end of the topic")

    @property
    def is_caught_up(self) -> bool:
        """True once everything is applied that existed when this connection was made."""
        return all(self.positions[tp] >= end for tp, end in self.ends.items())

    def share(self) -> float:
        """Return the share of offsets that is applied, 0 to 1, over all partitions."""
        total = sum(self.ends.values()) - sum(self.first.values())
        return min(1.0, sum(self.positions[tp] - first for tp, first in self.first.items()) / total) if total else 1.0

    def skip_to_end(self, topic: str) -> None:
        """Read only new records of ``topic``."""
        for tp, end in self.ends.items():
            if tp.topic == topic:
                self._seek_to(tp, end)

    async def end_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Return the offsets after the last records of ``topics`` now; TimeoutError after `ANSWER_S`."""
        tps = [tp for tp in self.ends if tp.topic in topics]
        ends: dict[TopicPartition, int] = await asyncio.wait_for(self._consumer.end_offsets(tps), ANSWER_S)
        return ends

    async def _seek(self) -> None:
        tps = sorted(self._consumer.assignment())
        self.first = await asyncio.wait_for(self._consumer.beginning_offsets(tps), ANSWER_S)
        self.ends = await asyncio.wait_for(self._consumer.end_offsets(tps), ANSWER_S)
        self.is_recreated = any(self.positions.get(tp, 0) > end for tp, end in self.ends.items())
        if self.is_recreated:
            self.positions.clear()
        for tp in tps:
            self._seek_to(tp, max(self.first[tp], self.positions.get(tp, 0)))

    def _seek_to(self, tp: TopicPartition, offset: int) -> None:
        self._consumer.seek(tp, offset)
        self.positions[tp] = offset
