"""Imported events published to a topic, with a recorded producer."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from engine.imports import kafka_sink
from engine.imports.counts import ImportCounts
from engine.imports.kafka_sink import KafkaSink
from engine.imports.streams import BLOCK_EVENTS, ndjson_blocks
from topics.contracts import CONNECTIONS, UNLIMITED
from topics.errors import OperatorError
from topics.events import ConnectionEvent

OPTIONS = {"bootstrap_servers": "127.0.0.1:9"}


class Recorder:
    """Replaces the producer and records the text."""

    made: list[Recorder]
    failure: Exception | None = None

    def __init__(self, topic: str, partitions: int, codec: str, options: dict[str, Any]) -> None:
        self.arguments = (topic, partitions, codec, options)
        self.text = b""
        self.stopped = False
        Recorder.made.append(self)

    async def start(self) -> None:
        if Recorder.failure:
            raise Recorder.failure

    async def send(self, text: bytes) -> None:
        self.text += text

    async def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def producers(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    Recorder.made, Recorder.failure = [], None
    monkeypatch.setattr(kafka_sink, "EventProducer", Recorder)
    return Recorder.made


def events(first_ms: int, count: int) -> list[ConnectionEvent]:
    return [ConnectionEvent(first_ms + i, "192.0.2.7", "", 1, 1, "accepted") for i in range(count)]


async def test_every_event_is_published_as_a_line_and_counted(producers: list[Recorder]) -> None:
    counts, now_ms = ImportCounts(), int(time.time() * 1000)
    count = 2 * BLOCK_EVENTS + 5
    await KafkaSink(CONNECTIONS, OPTIONS).send(ndjson_blocks(events(now_ms, count), counts), counts)
    (producer,) = producers
    assert producer.arguments == ("connections", CONNECTIONS.partitions, "lz4", OPTIONS)
    assert producer.text.count(b"\n") == counts.events["accepted"] == count
    assert producer.stopped


async def test_history_older_than_retention_is_refused_before_publishing(producers: list[Recorder]) -> None:
    counts = ImportCounts()
    with pytest.raises(OperatorError, match=r"begin on 2015-10-22, but topics.retention_ms keeps 7 days"):
        await KafkaSink(CONNECTIONS, OPTIONS).send(ndjson_blocks(events(1_445_505_221_000, 3), counts), counts)
    assert producers[0].stopped
    assert not producers[0].text


async def test_history_is_published_under_unlimited_retention(producers: list[Recorder]) -> None:
    counts, topic = ImportCounts(), replace(CONNECTIONS, retention_ms=UNLIMITED)
    await KafkaSink(topic, OPTIONS).send(ndjson_blocks(events(1_445_505_221_000, 3), counts), counts)
    assert producers[0].text.count(b"\n") == 3


async def test_failing_cluster_is_an_operator_error(producers: list[Recorder]) -> None:
    Recorder.failure = KafkaConnectionError("no broker")
    with pytest.raises(OperatorError, match=r"Kafka at 127.0.0.1:9 accepts no more events: .*no broker"):
        await KafkaSink(CONNECTIONS, OPTIONS).send([], ImportCounts())
