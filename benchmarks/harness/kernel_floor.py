"""The floor of the engine on a topic: its kernels alone, on one thread, without Kafka.

The first blocks of the topic are held in memory, then unpacked, scanned and detected, one block after the other. Prints
one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import uvloop
from aiokafka import TopicPartition

from engine.config.options import Settings
from engine.kafka.blocks import Block, BlockConsumer
from engine.kafka.decompress import Workspace
from engine.pipeline.build import partition
from engine.pipeline.precompile import precompile
from topics.columns.batches import read_events

BLOCKS = 64
DEFAULTS = Settings()


async def first_blocks(bootstrap: str, topic: str, partitions: int) -> list[Block]:
    """Return the first `BLOCKS` blocks of the topic, fewer if it is shorter."""
    consumer = BlockConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=DEFAULTS.worker.fetch_bytes
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(tps)
        left, blocks = sum((await consumer.end_offsets(tps)).values()), list[Block]()
        while left > 0 and len(blocks) < BLOCKS:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                blocks += (record.value for record in records)
                left -= sum(int(record.value.batches["records"].sum()) for record in records)
    finally:
        await consumer.stop()
    return blocks[:BLOCKS]


def measure(blocks: list[Block], partitions: int) -> dict[str, Any]:
    """Return the seconds per million events of unpacking, scanning and detecting, and the rate of all three."""
    workspace, by_number = Workspace(), {}
    settings = replace(DEFAULTS, topics=replace(DEFAULTS.topics, partitions=partitions))
    spent_s, events = {"unpack": 0.0, "scan": 0.0, "detect": 0.0}, 0
    for block in blocks:
        if block.partition not in by_number:
            by_number[block.partition] = partition(settings, block.partition)
        times_s = [time.perf_counter()]
        unpacked, columns = workspace.unpack(block)
        times_s.append(time.perf_counter())
        count = int(read_events(unpacked.raw, unpacked.arena, unpacked.batches, block.first_offset, columns))
        times_s.append(time.perf_counter())
        by_number[block.partition].apply(columns, 0, count)
        times_s.append(time.perf_counter())
        for name, begin_s, end_s in zip(spent_s, times_s, times_s[1:], strict=False):
            spent_s[name] += end_s - begin_s
        events += count
    return {
        "events": events,
        "events_per_s": events / sum(spent_s.values()),
        **{f"{name}_s_per_million": seconds / events * 1e6 for name, seconds in spent_s.items()},
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    chosen = parser.parse_args()
    precompile()
    uvloop.install()
    blocks = asyncio.run(first_blocks(chosen.bootstrap, chosen.topic, chosen.partitions))
    print(json.dumps(measure(blocks, chosen.partitions)))


if __name__ == "__main__":
    main()
