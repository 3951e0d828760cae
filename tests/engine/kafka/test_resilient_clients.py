"""Background tasks of aiokafka that used to end for good, and errors that pass."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, TopicAuthorizationFailedError
from aiokafka.producer.sender import Sender

from engine.kafka import resilient_clients
from engine.kafka.blocks import BlockConsumer
from engine.kafka.resilient_clients import PatientClient, PatientProducer, PatientSender, away
from engine.worker.prefetch import EventConsumer

SERVER = "127.0.0.1:1"


async def test_producers_and_consumers_are_made_of_patient_parts() -> None:
    producer = PatientProducer(bootstrap_servers=SERVER, transactional_id="one")
    assert (type(producer._sender), type(producer.client)) == (PatientSender, PatientClient)
    for consumer in (BlockConsumer(bootstrap_servers=SERVER), EventConsumer(bootstrap_servers=SERVER)):
        assert type(consumer._client) is PatientClient


async def test_metadata_are_asked_for_again_whatever_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [RuntimeError("half a broker"), True]

    async def update(*_: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = PatientClient(bootstrap_servers=SERVER)
    monkeypatch.setattr(client, "_metadata_update", update)
    monkeypatch.setattr(resilient_clients, "RETRY_S", 0.0)
    client._md_update_waiter = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(client._md_synchronizer())
    assert await asyncio.wait_for(client.force_metadata_update(), 5) is False
    assert await asyncio.wait_for(client.force_metadata_update(), 5) is True
    assert not task.done()
    task.cancel()


async def test_what_the_stock_client_makes_of_that_is_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def update(*_: Any) -> Any:
        raise RuntimeError("half a broker")

    client = AIOKafkaClient(bootstrap_servers=SERVER)
    monkeypatch.setattr(client, "_metadata_update", update)
    client._md_update_waiter = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(client._md_synchronizer())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.force_metadata_update(), 0.05)
    assert isinstance(task.exception(), RuntimeError)


def test_what_passes_is_told_from_what_does_not() -> None:
    assert [away(error) for error in (KafkaConnectionError(), KafkaTimeoutError(), KafkaError())] == [True, True, False]


@pytest.mark.parametrize(("cause", "asked"), [(KafkaConnectionError(), 2), (TopicAuthorizationFailedError(), 1)])
async def test_a_connection_lost_while_a_coordinator_is_looked_up_is_tried_again(
    cause: KafkaError, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    async def find(self: Sender, kind: int, key: str) -> int:
        nonlocal count
        count += 1
        if count == 1:
            raise KafkaError("lost") from cause
        return 7

    monkeypatch.setattr(Sender, "_find_coordinator", find)
    monkeypatch.setattr(resilient_clients, "RETRY_S", 0.0)
    sender = PatientSender.__new__(PatientSender)
    if asked == 1:
        with pytest.raises(KafkaError, match="lost"):
            await sender._find_coordinator(1, "one")
    else:
        assert await sender._find_coordinator(1, "one") == 7
    assert count == asked
