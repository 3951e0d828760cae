"""Changes to a cluster, by an operator or an accident, through Kafka's own interfaces."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from engine.broker import java_environment, kafka_tool

BROKER_SETTINGS = {
    "log.cleaner.backoff.ms": "500",  # Kafka's default: 15 s between two searches for logs to compact
    "log.initial.task.delay.ms": "1000",
    "producer.id.expiration.ms": str(
        7 * 86_400_000
    ),  # last evening's events may be older than Kafka's default of a day
}
TOOL_TIMEOUT_S = 60
CLIENT = "tidegate"


def ends(bootstrap: str, topic: str, partitions: int) -> dict[int, int]:
    """Return the end offset of each partition."""

    async def ask() -> dict[int, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
        await consumer.start()
        try:
            found = await consumer.end_offsets([TopicPartition(topic, number) for number in range(partitions)])
        finally:
            await consumer.stop()
        return {tp.partition: int(end) for tp, end in found.items()}

    return asyncio.run(ask())


def _administer(bootstrap: str, work: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> None:
    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            await work(admin)
        finally:
            await admin.close()

    asyncio.run(run())


def delete_records(bootstrap: str, topic: str, before: int) -> None:
    """Delete all records of partition 0 below an offset, as retention would."""
    chosen = {TopicPartition(topic, 0): RecordsToDelete(before_offset=before)}
    _administer(bootstrap, lambda admin: admin.delete_records(chosen))


def add_partitions(bootstrap: str, topic: str, total: int) -> None:
    """Increase a topic's partitions to ``total``."""
    _administer(bootstrap, lambda admin: admin.create_partitions({topic: NewPartitions(total)}))


def configure(bootstrap: str, topic: str, settings: dict[str, str]) -> None:
    """Set a topic's whole configuration."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, settings)
    _administer(bootstrap, lambda admin: admin.alter_configs([resource]))


def limit(bootstrap: str, quota: str, bytes_per_s: int | None) -> None:
    """Set a quota of the workers' client id (producer_byte_rate, consumer_byte_rate); None removes it."""
    change = ["--delete-config", quota] if bytes_per_s is None else ["--add-config", f"{quota}={bytes_per_s}"]
    target = ["--alter", "--entity-type", "clients", "--entity-name", CLIENT]
    command = kafka_tool("kafka.admin.ConfigCommand", "--bootstrap-server", bootstrap, *target, *change)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, env=java_environment(), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
