"""Floors: what the engine can't be faster than on this topic, each alone in a process of its own.

``fetch``: the block consumer alone, CRC checked, nothing unpacked. ``kernels``: the blocks of the topic's beginning, held
in memory, through unpacking, scanning and detecting, one partition after the other, no Kafka. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field, replace
from typing import Any

import uvloop
from aiokafka import TopicPartition

from engine.config.options import Settings
from engine.kafka.blocks import Block, BlockConsumer
from engine.kafka.decompress import Unpacked, Workspace
from engine.pipeline.build import partition
from engine.pipeline.precompile import warm
from topics.columns.batches import read_events

HELD_BLOCKS = 64
DEFAULTS = Settings()


@dataclass
class Fetched:
    """What fetching gave: sums over all blocks, and the first of them."""

    events: int = 0
    octets: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    held: list[Block] = field(default_factory=list)


async def fetch(bootstrap: str, topic: str, partitions: int) -> Fetched:
    """Read the topic from beginning to end."""
    fetched = Fetched()
    consumer = BlockConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=DEFAULTS.worker.fetch_bytes
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(tps)
        left = sum((await consumer.end_offsets(tps)).values())
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        while fetched.events < left:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for block in (record.value for record in records):
                    fetched.events += int(block.batches["records"].sum())
                    fetched.octets += len(block.octets)
                    if len(fetched.held) < HELD_BLOCKS:
                        fetched.held.append(block)
        fetched.seconds = time.perf_counter() - started_s
        fetched.cpu_s = time.process_time() - started_cpu_s
    finally:
        await consumer.stop()
    return fetched


def kernels(blocks: list[Block], partitions: int) -> dict[str, Any]:
    """Seconds a million events of unpacking, scanning and detecting, and the rate of all three."""
    workspace, fresh = Workspace(), {}
    settings = replace(DEFAULTS, topics=replace(DEFAULTS.topics, partitions=partitions))
    spent, events = {"unpack": 0.0, "scan": 0.0, "detect": 0.0}, 0
    for block in blocks:
        if block.partition not in fresh:
            fresh[block.partition] = partition(settings, block.partition)
        at = [time.perf_counter()]
        unpacked, columns = workspace.unpack(block)
        at.append(time.perf_counter())
        count = _scan(unpacked, columns, block)
        at.append(time.perf_counter())
        fresh[block.partition].apply(columns, 0, count)
        at.append(time.perf_counter())
        for name, begin, end in zip(spent, at, at[1:], strict=False):
            spent[name] += end - begin
        events += count
    return {
        "events": events,
        "events_per_s": events / sum(spent.values()),
        **{f"{name}_s_per_million": seconds / events * 1e6 for name, seconds in spent.items()},
    }


def _scan(unpacked: Unpacked, columns: Any, block: Block) -> int:
    return int(read_events(unpacked.octets, unpacked.arena, unpacked.batches, block.first_offset, columns))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    chosen = parser.parse_args()
    warm()
    uvloop.install()
    fetched = asyncio.run(fetch(chosen.bootstrap, chosen.topic, chosen.partitions))
    result = {
        "fetch": {
            "events": fetched.events,
            "events_per_s": fetched.events / fetched.seconds,
            "cpu_s_per_million": fetched.cpu_s / fetched.events * 1e6,
            "octets_per_event": fetched.octets / fetched.events,
        },
        "kernels": kernels(fetched.held, chosen.partitions),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
