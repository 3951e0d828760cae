"""Ended connections become events on disk, and none is lost on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine.edge.connections import ConnectionTracker
from engine.edge.delivery import SLICE_EVENTS, Delivery, DeliveryOptions
from engine.edge.spool import Spool

CLIENTS = 3 * SLICE_EVENTS + 1


class SpoolWithTraffic(Spool):
    """A spool during whose every write another connection ends."""

    def __init__(self, folder: Path, connections: ConnectionTracker) -> None:
        super().__init__(folder, 1 << 20)
        self._connections = connections

    def append(self, lines: list[bytes]) -> None:
        super().append(lines)
        self._connections.touch("another", "192.0.2.1", 0)
        self._connections.end("another")


async def test_flush_waits_for_events_of_a_concurrent_flush(tmp_path: Path) -> None:
    connections, spool = ConnectionTracker(1000), Spool(tmp_path, 1 << 20)
    delivery = Delivery(connections, spool, DeliveryOptions("mx1/2", "mx1", "", 0.1, 1.0, {}))
    for number in range(CLIENTS):
        connections.touch(str(number), f"192.0.2.{number % 256}", number)
    connections.end_all()
    concurrent = asyncio.create_task(delivery.flush())
    await asyncio.sleep(0)
    assert len(spool) == 0

    await delivery.flush()

    _, lines = spool.oldest() or (0, [])
    assert len(lines) == CLIENTS
    assert all(b'"mta":"mx1"' in line for line in lines)
    assert len(connections.pop_ended(1)) == 0
    await concurrent


async def test_connection_ended_during_a_flush_is_left_to_the_next(tmp_path: Path) -> None:
    connections = ConnectionTracker(1000)
    spool = SpoolWithTraffic(tmp_path, connections)
    delivery = Delivery(connections, spool, DeliveryOptions("mx1", "mx1", "", 0.1, 1.0, {}))
    connections.touch("first", "192.0.2.7", 0)
    connections.end("first")

    for batches in (1, 2):
        await asyncio.wait_for(delivery.flush(), 5)
        assert (len(spool), connections.ended_count) == (batches, 1)
