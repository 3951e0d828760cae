"""Publish imported events to the connections topic of a cluster, with keys and timestamps as an edge sets them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.errors import KafkaError

from engine.imports.counts import ImportCounts
from engine.kafka.event_producer import EventProducer, refuse_expired
from topics.contracts import Topic
from topics.errors import OperatorError

CODEC = "lz4"


class KafkaSink:
    """Publishes to an existing connections topic. `client_options`: aiokafka's, `bootstrap_servers` among them."""

    def __init__(self, topic: Topic, client_options: Mapping[str, Any]) -> None:
        self._topic = topic
        self._options = dict(client_options)

    async def send(self, blocks: Iterable[bytes], counts: ImportCounts) -> None:
        """Publish blocks of NDJSON, whose events `counts` counts.

        Raise OperatorError if the cluster fails, or if events are older than the retention: Kafka deletes by event time, so
        it would drop them within minutes.
        """
        producer = EventProducer(self._topic.name, self._topic.partitions, CODEC, self._options)
        try:
            await producer.start()
            try:
                for block in blocks:
                    refuse_expired(counts.first_ms, self._topic.retention_ms)
                    await producer.send(block)
            finally:
                await producer.stop()
        except KafkaError as error:
            raise OperatorError(
                f"Kafka at {self._options['bootstrap_servers']} accepts no more events: {error}"
            ) from error
