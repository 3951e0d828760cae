"""Imported events into the connections topic of a cluster, keyed and stamped as an edge would send them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.errors import KafkaError

from engine.imports.counts import Tally
from engine.kafka.event_producer import EventProducer, refuse_history
from topics.contracts import Topic
from topics.errors import OperatorError

CODEC = "lz4"


class KafkaSink:
    """A connections topic that is there. ``client_options``: aiokafka's keywords, ``bootstrap_servers`` among them."""

    def __init__(self, topic: Topic, client_options: Mapping[str, Any]) -> None:
        self._topic = topic
        self._options = dict(client_options)

    async def send(self, blocks: Iterable[bytes], tally: Tally) -> None:
        """Send blocks of NDJSON; ``tally`` counts their events. OperatorError when the cluster fails, or when the events are
        so old that Kafka, which deletes by event time, would drop them within minutes."""
        producer = EventProducer(self._topic.name, self._topic.partitions, CODEC, self._options)
        try:
            await producer.start()
            try:
                for block in blocks:
                    refuse_history(tally.first_ms, self._topic.retention_ms)
                    await producer.send(block)
            finally:
                await producer.stop()
        except KafkaError as error:
            raise OperatorError(
                f"Kafka at {self._options['bootstrap_servers']} took no more events: {error}"
            ) from error
