"""Connections become events on disk, and none is forgotten on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine.edge.connections import Connections
from engine.edge.delivery import AT_ONCE, Delivery, Sending
from engine.edge.spool import Spool

CLIENTS = 3 * AT_ONCE + 1


class Meanwhile(Spool):
    """A spool that somebody else's connection ends beside, whenever a batch is written."""

    connections: Connections

    def append(self, lines: list[bytes]) -> None:
        super().append(lines)
        self.connections.heard("one more", "192.0.2.1", 0)
        self.connections.end("one more")


async def test_who_flushes_finds_everything_on_disk_that_another_flush_had_taken(tmp_path: Path) -> None:
    connections, spool = Connections(1000), Spool(tmp_path, 1 << 20)
    delivery = Delivery(connections, spool, Sending("mx1/2", "mx1", "", 0.1, 1.0, {}))
    for number in range(CLIENTS):
        connections.heard(str(number), f"192.0.2.{number % 256}", number)
    connections.end_all()
    another = asyncio.create_task(delivery.flush())
    await asyncio.sleep(0)
    assert len(spool) == 0
    await delivery.flush()
    _, lines = spool.oldest() or (0, [])
    assert len(lines) == CLIENTS
    assert all(b'"mta":"mx1"' in line for line in lines)
    assert len(connections.take_ended(1)) == 0
    await another


async def test_what_ends_while_a_batch_is_written_waits_for_the_next_flush(tmp_path: Path) -> None:
    connections, spool = Connections(1000), Meanwhile(tmp_path, 1 << 20)
    spool.connections = connections
    delivery = Delivery(connections, spool, Sending("mx1", "mx1", "", 0.1, 1.0, {}))
    connections.heard("first", "192.0.2.7", 0)
    connections.end("first")
    for batches in (1, 2):
        await asyncio.wait_for(delivery.flush(), 5)
        assert (len(spool), connections.ended) == (batches, 1)
