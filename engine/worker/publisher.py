"""What the engine publishes at once, outside any transaction: decisions, releases, dead letters.

After a crash the same decisions are published again, with the same source offsets: readers drop what is not newer than
what they hold. A checkpoint becomes durable only after everything published before it was acknowledged (`settled`), so
none is lost either.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import orjson
from aiokafka.errors import KafkaTimeoutError
from mode import get_logger

from engine.kafka.resilient_clients import PatientProducer
from topics.decisions import RELEASE, RELEASE_HEADER, Decision, Source, encode_decision

logger = get_logger(__name__)
LINGER_MS = 5
BATCH_OCTETS = 256 << 10
MOST_BURIED = 1_000_000
MOST_REQUEST = 2 << 20


def dead_letter(reason: str, source: Source, value: bytes) -> bytes:
    """A dead letter's JSON: why, from where, how long the record is, and its first million octets in base64."""
    return orjson.dumps(
        {
            "reason": reason,
            "source": {"topic": source.topic, "partition": source.partition, "offset": source.offset},
            "octets": len(value),
            "value_base64": base64.b64encode(value[:MOST_BURIED]).decode(),
        }
    )


class Publisher:
    """Publishes to ``decisions`` and ``dead_letters`` (topic names). ``on_failure`` is told of a record that was refused."""

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
        self._producer = PatientProducer(
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_OCTETS,
            max_request_size=MOST_REQUEST,
            **self._options,
        )
        await self._producer.start()

    async def stop(self) -> None:
        """Send what is left and disconnect."""
        await self._producer.stop()

    async def publish(self, decision: Decision) -> None:
        """Queue a decision; waits while the producer's buffer is full, however long the cluster is away."""
        body = encode_decision(decision)
        if decision.verdict == RELEASE:
            await self._send(self._decisions, decision.network.encode(), None, [(RELEASE_HEADER, body)])
        else:
            await self._send(self._decisions, decision.network.encode(), body, [])

    async def bury(self, reason: str, source: Source, value: bytes) -> None:
        """Queue a dead letter."""
        await self._send(self._dead_letters, None, dead_letter(reason, source, value), [])

    async def settled(self) -> None:
        """Wait until all that was queued so far has been acknowledged; raises, from then on always, if a record wasn't."""
        if self._pending:  # a waiter that is cancelled must not cancel what others wait for, as `gather` would
            await asyncio.wait(self._pending, return_when=asyncio.FIRST_EXCEPTION)
        if self._refused is not None:
            raise self._refused

    async def _send(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        while True:
            try:
                future = await self._producer.send(topic, value, key, headers=headers)
                break
            except KafkaTimeoutError:
                logger.warning("the cluster has taken no decisions for a while: waiting for it")
        self._pending.add(future)
        future.add_done_callback(self._acknowledged)

    def _acknowledged(self, future: asyncio.Future[Any]) -> None:
        self._pending.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            self._refused = self._refused or error
            self._on_failure(error)
