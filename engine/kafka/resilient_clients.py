"""aiokafka's clients, able to wait: for a cluster that is away, and through what a broker answers while it starts.

Two of aiokafka's background tasks end for good at an error that would pass, and whoever waits for them then waits for ever: a
sender that loses its connection while it looks for its coordinator, and a client's metadata task. Here they go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import FunctionType
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.producer.sender import Sender
from mode import get_logger

logger = get_logger(__name__)
RETRY_S = 0.5


def rebound(function: Callable[..., Any], **names: Any) -> Callable[..., Any]:
    """The same function with other bindings for some of its module's global names."""
    assert isinstance(function, FunctionType)
    unknown = set(names) - set(function.__code__.co_names)
    assert not unknown, f"{function.__qualname__} doesn't use {unknown}"
    copy = FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def away(error: KafkaError) -> bool:
    """Whether an error says no more than that the cluster, or a part of it, can't be reached for the time being. aiokafka
    takes a batch that found no room in time for final, though nothing of it was sent."""
    return bool(error.retriable) or isinstance(error, KafkaTimeoutError)


class PatientClient(AIOKafkaClient):  # type: ignore[misc]
    """aiokafka's client, whose metadata task survives its errors; those who wait for metadata learn that there is none."""

    _md_update_fut: asyncio.Future[bool] | None

    async def _md_synchronizer(self) -> None:
        while True:
            try:
                await super()._md_synchronizer()
            except Exception as error:  # noqa: BLE001 (whatever it was, nobody else would ever refresh the metadata)
                logger.warning("no metadata of the cluster: %r", error)
                waiting, self._md_update_fut = self._md_update_fut, None
                if waiting is not None and not waiting.done():
                    waiting.set_result(False)
                await asyncio.sleep(RETRY_S)


class PatientSender(Sender):  # type: ignore[misc]
    """aiokafka's sender, which looks for its coordinator until it has it."""

    async def _find_coordinator(self, kind: int, key: str) -> int:
        while True:
            try:
                return int(await super()._find_coordinator(kind, key))
            except KafkaError as error:
                if not getattr(error.__cause__, "retriable", False):
                    raise
                await asyncio.sleep(RETRY_S)


class PatientProducer(AIOKafkaProducer):  # type: ignore[misc]
    """aiokafka's producer with these."""

    __init__ = rebound(AIOKafkaProducer.__init__, Sender=PatientSender, AIOKafkaClient=PatientClient)
