"""A worker ends when the connections topic has got another number of partitions."""

from __future__ import annotations

import asyncio

import pytest

from engine.worker import partition_watch
from engine.worker.partition_watch import PartitionWatch, Repartitioned
from topics.contracts import CONNECTIONS, contracts


async def test_added_partitions_end_the_worker_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_watch, "CHECK_S", 0.0)
    monkeypatch.setattr(partition_watch, "REPORT_S", 0.0)
    counts, reports, failures = iter([4, 0, 4, 6]), list[str](), list[BaseException]()

    async def count(topic: str) -> int:
        assert topic == f"mx-{CONNECTIONS.name}"
        return next(counts)

    connections = contracts("mx-", 4, -1, 1)[0]
    await asyncio.wait_for(PartitionWatch(connections, count, reports.append, failures.append).run(), 5)

    (failure,) = failures
    assert isinstance(failure, Repartitioned)
    assert reports == [str(failure)]
    assert "has 6 partitions, this configuration expects 4: set topics.partitions = 6" in str(failure)
