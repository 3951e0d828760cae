"""Publish decisions, releases and dead letters immediately, outside any transaction.

After a crash the same decisions are published again, with the same source offsets; readers drop a decision that is not newer
than theirs. A checkpoint becomes durable only after everything published before it was acknowledged (`flushed`), so none is
lost either.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import orjson
from aiokafka.errors import KafkaTimeoutError
from mode import get_logger

from engine.kafka.resilient_clients import ResilientProducer
from topics.decisions import RELEASE, RELEASE_HEADER, Decision, Source, encode_decision

logger = get_logger(__name__)
LINGER_MS = 5
BATCH_BYTES = 256 << 10
MAX_BURIED_BYTES = 1_000_000
MAX_REQUEST_BYTES = 2 << 20


def dead_letter(reason: str, source: Source, value: bytes) -> bytes:
    """Return a dead letter's JSON: reason, source, the record's size, and its first `MAX_BURIED_BYTES` in base64."""
    return orjson.dumps(
        {
            "reason": reason,
            "source": {"topic": source.topic, "partition": source.partition, "offset": source.offset},
            "bytes": len(value),
            "value_base64": base64.b64encode(value[:MAX_BURIED_BYTES]).decode(),
        }
    )


class Publisher:
    """Publishes to two topics. ``on_failure`` is called with the error when the cluster refuses a record."""

    def __init__(
        self, decisions: str, dead_letters: str, options: dict[str, Any], on_failure: Callable[[BaseException], None]
    ) -> None:
        self._decisions, self._dead_letters = decisions, dead_letters
        self._on_failure = on_failure
        self._pending: set[asyncio.Future[Any]] = set()
        self._refused: BaseException | None = None
        self._options = options

    async def start(self) -> None:
        """Connect."""
        self._producer = ResilientProducer(
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_REQUEST_BYTES,
            **self._options,
        )
        await self._producer.start()

    async def stop(self) -> None:
        """Send all queued records and disconnect."""
        await self._producer.stop()

    async def publish(self, decision: Decision) -> None:
        """Queue a decision. Waits while the producer's buffer is full, however long the cluster is unreachable."""
        body = encode_decision(decision)
        if decision.verdict == RELEASE:
            await self._send(self._decisions, decision.network.encode(), None, [(RELEASE_HEADER, body)])
        else:
            await self._send(self._decisions, decision.network.encode(), body, [])

    async def bury(self, reason: str, source: Source, value: bytes) -> None:
        """Queue a dead letter."""
        await self._send(self._dead_letters, None, dead_letter(reason, source, value), [])

    async def partition_count(self, topic: str) -> int:
        """Return how many partitions a topic has now, 0 if the cluster doesn't answer or doesn't show it."""
        client = self._producer.client
        await client.add_topic(topic)
        await client.force_metadata_update()
        return len(client.cluster.partitions_for_topic(topic) or ())

    async def flushed(self) -> None:
        """Wait until all records queued so far are acknowledged. Raises if any record was ever refused."""
        if self._pending:  # a cancelled waiter must not cancel the futures of the others, as `gather` would
            await asyncio.wait(self._pending, return_when=asyncio.FIRST_EXCEPTION)
        if self._refused is not None:
            raise self._refused

    async def _send(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        while True:
            try:
                future = await self._producer.send(topic, value, key, headers=headers)
                break
            except KafkaTimeoutError:
                logger.warning("the cluster has accepted no decisions for a while: waiting for it")
        self._pending.add(future)
        future.add_done_callback(self._acknowledged)

    def _acknowledged(self, future: asyncio.Future[Any]) -> None:
        self._pending.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            self._refused = self._refused or error
            self._on_failure(error)
