"""No client of ours creates a topic, even on a cluster that creates topics on demand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from engine.broker import EmbeddedBroker
from engine.kafka.blocks import BlockConsumer
from engine.kafka.clients import ExistingTopicsConsumer, ExistingTopicsProducer
from engine.kafka.resilient_clients import ResilientProducer
from tests.support.edges import EdgeProcess
from tests.support.workers import environment, tidegate

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]
WAIT_S = 3.0


@pytest.fixture(scope="module")
def obliging(kafka_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a broker that creates topics on demand."""
    settings = {"auto.create.topics.enable": "true"}
    with EmbeddedBroker(tmp_path_factory.mktemp("obliging"), settings=settings) as broker:
        yield broker.bootstrap


async def topics_on(bootstrap: str) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return {topic for topic in await admin.list_topics() if not topic.startswith("__")}
    finally:
        await admin.close()


async def use_consumer(consumer: Any) -> None:
    try:
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(consumer.start(), WAIT_S)
            await asyncio.wait_for(consumer.getone(), WAIT_S)
    finally:
        await consumer.stop()


@pytest.mark.parametrize("consumer_class", [ExistingTopicsConsumer, BlockConsumer])
async def test_consumer_of_a_missing_topic_does_not_create_it(obliging: str, consumer_class: type[Any]) -> None:
    await use_consumer(consumer_class("missing", bootstrap_servers=obliging))

    assert "missing" not in await topics_on(obliging)


@pytest.mark.parametrize("producer_class", [ExistingTopicsProducer, ResilientProducer])
async def test_producer_to_a_missing_topic_does_not_create_it(obliging: str, producer_class: type[Any]) -> None:
    producer = producer_class(bootstrap_servers=obliging)
    await producer.start()
    try:
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(producer.send("missing", b"x"), WAIT_S)
    finally:
        await producer.stop()

    assert "missing" not in await topics_on(obliging)


async def test_stock_consumer_of_a_missing_topic_creates_it(obliging: str) -> None:
    await use_consumer(AIOKafkaConsumer("created-on-demand", bootstrap_servers=obliging))

    assert "created-on-demand" in await topics_on(obliging)


def test_edge_and_commands_before_the_topics_exist_create_none(obliging: str, tmp_path: Path) -> None:
    env = environment(obliging, "early-", 2)

    with EdgeProcess(env, tmp_path / "edge") as edge:
        listed = tidegate("connector", "list", env=env)
        decisions = tidegate("decisions", "--no-follow", env=env)
        stopped = edge.stop()

    assert (listed.returncode, decisions.returncode, stopped) == (2, 2, 0)
    assert not any(topic.startswith("early-") for topic in asyncio.run(topics_on(obliging)))
