from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from engine.imports import kafka_sink
from engine.imports.counts import Tally
from engine.imports.kafka_sink import KafkaSink
from engine.imports.ndjson import BLOCK_EVENTS, text_blocks
from topics.contracts import CONNECTIONS, UNLIMITED
from topics.errors import OperatorError
from topics.events import ConnectionEvent

OPTIONS = {"bootstrap_servers": "127.0.0.1:9"}


class Recorder:
    """Stands where the producer is: keeps what it is given."""

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


async def test_every_event_is_sent_as_a_line_and_counted(producers: list[Recorder]) -> None:
    tally, now_ms = Tally(), int(time.time() * 1000)
    count = 2 * BLOCK_EVENTS + 5
    await KafkaSink(CONNECTIONS, OPTIONS).send(text_blocks(events(now_ms, count), tally), tally)
    (producer,) = producers
    assert producer.arguments == ("connections", CONNECTIONS.partitions, "lz4", OPTIONS)
    assert producer.text.count(b"\n") == tally.events["accepted"] == count
    assert producer.stopped


async def test_history_that_kafka_would_drop_is_refused_before_it_is_sent(producers: list[Recorder]) -> None:
    tally = Tally()
    with pytest.raises(OperatorError, match=r"begin on 2015-10-22, but topics.retention_ms keeps 7 days"):
        await KafkaSink(CONNECTIONS, OPTIONS).send(text_blocks(events(1_445_505_221_000, 3), tally), tally)
    assert producers[0].stopped
    assert not producers[0].text


async def test_history_is_sent_where_records_are_kept_for_ever(producers: list[Recorder]) -> None:
    tally, topic = Tally(), replace(CONNECTIONS, retention_ms=UNLIMITED)
    await KafkaSink(topic, OPTIONS).send(text_blocks(events(1_445_505_221_000, 3), tally), tally)
    assert producers[0].text.count(b"\n") == 3


async def test_a_cluster_that_fails_is_the_operators_error(producers: list[Recorder]) -> None:
    Recorder.failure = KafkaConnectionError("no broker")
    with pytest.raises(OperatorError, match=r"Kafka at 127.0.0.1:9 took no more events: .*no broker"):
        await KafkaSink(CONNECTIONS, OPTIONS).send([], Tally())
