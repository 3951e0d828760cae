"""aiokafka's clients, made to wait: for an unreachable cluster, and through the errors of a broker that is starting.

Two of aiokafka's background tasks end for good at an error that would pass: a sender that loses its connection while it looks
for its coordinator, and a client's metadata task. Calls that wait for them then never return. Here the tasks continue.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.producer.sender import Sender
from mode import get_logger

from engine.kafka.clients import ExistingTopicsClient, rebound
from engine.kafka.follow import RETRY_S

logger = get_logger(__name__)


def is_transient(error: Exception) -> bool:
    """Return True if the error says that the cluster, or a part of it, is unavailable and may return.

    Includes KafkaTimeoutError, which aiokafka considers final: a batch found no room in time, but nothing of it was sent.
    """
    return isinstance(error, KafkaError) and (bool(error.retriable) or isinstance(error, KafkaTimeoutError))


class ResilientClient(ExistingTopicsClient):
    """aiokafka's client with a metadata task that survives its errors. Waiting callers learn that there is no metadata."""

    _md_update_fut: asyncio.Future[bool] | None

    async def _md_synchronizer(self) -> None:
        while True:
            try:
                await super()._md_synchronizer()
            except Exception as error:  # noqa: BLE001 (after any error, nothing else would ever refresh the metadata)
                logger.warning("no metadata of the cluster: %r", error)
                waiting, self._md_update_fut = self._md_update_fut, None
                if waiting is not None and not waiting.done():
                    waiting.set_result(False)
                await asyncio.sleep(RETRY_S)


class ResilientSender(Sender):  # type: ignore[misc]
    """aiokafka's sender, which looks for its coordinator until it has it."""

    async def _find_coordinator(self, kind: int, key: str) -> int:
        while True:
            try:
                return int(await super()._find_coordinator(kind, key))
            except KafkaError as error:
                if not getattr(error.__cause__, "retriable", False):
                    raise
                await asyncio.sleep(RETRY_S)


class ResilientProducer(AIOKafkaProducer):  # type: ignore[misc]
    """aiokafka's producer with a resilient client and sender."""

    __init__ = rebound(AIOKafkaProducer.__init__, Sender=ResilientSender, AIOKafkaClient=ResilientClient)
