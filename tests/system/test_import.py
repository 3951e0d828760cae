"""`tidegate import --bootstrap`: the records that an outside client reads from the topic."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from engine.broker import EmbeddedBroker
from engine.kafka.topic_admin import ensure
from tests.support.logs import file_of, syslog_lines
from tests.support.workers import environment, tidegate
from topics.contracts import UNLIMITED, contracts
from topics.keys import key_of, key_text
from topics.partitioner import partition_of

pytestmark = pytest.mark.system

PARTITIONS = 3
ADDRESSES = [f"192.0.2.{i}" for i in range(1, 60)] + [f"2001:db8:0:{i:x}::25" for i in range(1, 60)]


def log_of(addresses: list[str]) -> bytes:
    verbs = ("connect", "disconnect")
    return syslog_lines(
        (f"{verb} from unknown[{ip}]" for ip in addresses for verb in verbs), program="postfix/smtpd[7]: "
    )


async def records(bootstrap: str, topic: str, count: int) -> list[Any]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [await asyncio.wait_for(consumer.getone(), 30) for _ in range(count)]
    finally:
        await consumer.stop()


async def imported(broker: EmbeddedBroker, prefix: str, folder: Path, retention_ms: int) -> tuple[int, str]:
    """Import all addresses into topics with that retention; return exit status and standard error."""
    await ensure(broker.bootstrap, contracts(prefix, PARTITIONS, retention_ms, 1), {})
    env = environment(broker.bootstrap, prefix, PARTITIONS, TOPICS_RETENTION_MS=retention_ms)
    arguments = ["import", "postfix", str(file_of(folder, log_of(ADDRESSES))), "--year", "2024", "--time-zone", "UTC"]
    done = await asyncio.to_thread(tidegate, *arguments, "--bootstrap", broker.bootstrap, env=env)
    assert done.stdout == b""
    return done.returncode, done.stderr.decode()


async def test_imported_events_have_key_timestamp_and_partition_of_kafkas_partitioner(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path
) -> None:
    status, report = await imported(broker, prefix, tmp_path, UNLIMITED)
    assert status == 0, report
    assert f"{2 * len(ADDRESSES)} lines, {len(ADDRESSES)} events" in report
    published = await records(broker.bootstrap, prefix + "connections", len(ADDRESSES))
    expected = {
        (ip, key_text(key_of(ip)).encode(), 1_714_557_600_000 + 2000 * i) for i, ip in enumerate(ADDRESSES)
    }  # fmt: skip
    values = {record.value for record in published}
    assert values == {
        b'{"ts":%d,"ip":"%s","mta":"mx","outcome":"rejected"}' % (ts, ip.encode()) for ip, _, ts in expected
    }
    assert {(record.key, record.timestamp) for record in published} == {(key, ts) for _, key, ts in expected}
    assert all(record.partition == partition_of(record.key, PARTITIONS) for record in published)


async def test_history_older_than_retention_is_refused(broker: EmbeddedBroker, prefix: str, tmp_path: Path) -> None:
    status, report = await imported(broker, prefix, tmp_path, 86_400_000)
    assert status == 2
    assert "the events begin on 2024-05-01, but topics.retention_ms keeps 1 days" in report
