"""From event to decision: how long after an event was meant to be sent its decision reaches a reader of the topic.

Open load (`pacer.py`), so a stall shows in every event that it holds up. Measured is the whole way: producer, broker,
worker, broker, this reader; ``issued`` of a decision is the stamp of the event that led to it. The first seconds, in which
the consumers find their pace, are left out. Every newcomer must have exactly one decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from hdrh.histogram import HdrHistogram

from benchmarks.cluster import PARTITIONS, Place, ends, make_topics
from benchmarks.engine_worker import Worker
from benchmarks.errors import Broken
from benchmarks.pacer import batches, newcomer
from topics.contracts import DECISIONS

HERE = Path(__file__).parent
WARM_UP_S = 3.0
PATIENCE_S = 15.0
MOST_US = 600_000_000


@dataclass(frozen=True)
class Latency:
    """Milliseconds from event to decision. ``late_most_ms``: how late the generator was at worst, included in them."""

    events_per_s: float
    decisions: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    most_ms: float
    late_most_ms: float
    cpu_s_per_million: float
    complaints: list[str]


@dataclass(frozen=True)
class Arrival:
    """A decision: its network, the stamp of its event, and when this reader had it (Unix time)."""

    network: str
    issued_ms: int
    arrived_s: float


def measure(place: Place, rate: int, seconds: float, folder: Path) -> Latency:
    """Run a worker under ``rate`` events a second for ``seconds``, the first `WARM_UP_S` (or a third) not counted."""
    make_topics(place)
    with Worker(place.environment("latency"), folder) as worker:
        before = worker.wait_ready(PARTITIONS)
        sent, arrivals = asyncio.run(_observe(place, rate, seconds))
        last = {number: end - 1 for number, end in ends(place).items()}
        after = worker.until_durable(last)[-1]
    wrong = _complaints(arrivals, int(sent["newcomers"]))
    if after.status["events"] != sent["events"]:
        wrong.append(f"events counted: {after.status['events']:,} instead of {int(sent['events']):,}")
    counted_from_ms = sent["first_ms"] + min(WARM_UP_S, seconds / 3) * 1000
    histogram = HdrHistogram(1, MOST_US, 3)
    for arrival in arrivals:
        if arrival.issued_ms >= counted_from_ms:
            histogram.record_value(max(1, int(arrival.arrived_s * 1e6) - arrival.issued_ms * 1000))
    p50, p99, p999 = (histogram.get_value_at_percentile(share) / 1000 for share in (50, 99, 99.9))
    return Latency(
        events_per_s=sent["events_per_s"],
        decisions=histogram.get_total_count(),
        p50_ms=p50,
        p99_ms=p99,
        p999_ms=p999,
        most_ms=histogram.get_max_value() / 1000,
        late_most_ms=sent["late_most_ms"],
        cpu_s_per_million=(after.cpu_s - before.cpu_s) / sent["events"] * 1e6,
        complaints=wrong,
    )


async def _observe(place: Place, rate: int, seconds: float) -> tuple[dict[str, float], list[Arrival]]:
    """Load, and read decisions until there are as many as newcomers, or the time for the last ones is over."""
    consumer = AIOKafkaConsumer(bootstrap_servers=place.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    pacer = None
    try:
        consumer.assign([TopicPartition(place.prefix + DECISIONS.name, n) for n in range(DECISIONS.partitions)])
        arrivals: list[Arrival] = []
        reading = asyncio.create_task(_read(consumer, arrivals, batches(seconds)))
        pacer = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "pacer.py"), "--bootstrap", place.bootstrap, "--prefix", place.prefix,
            "--rate", str(rate), "--seconds", str(seconds),
            stdout=asyncio.subprocess.PIPE, env=place.environment(),
        )  # fmt: skip
        said, _ = await pacer.communicate()
        if pacer.returncode:
            raise Broken(f"the load generator ended with status {pacer.returncode}")
        sent: dict[str, float] = json.loads(said)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reading, PATIENCE_S)
    finally:
        if pacer is not None and pacer.returncode is None:
            pacer.kill()
        await consumer.stop()
    return sent, arrivals


async def _read(consumer: AIOKafkaConsumer, arrivals: list[Arrival], wanted: int) -> None:
    while len(arrivals) < wanted:
        fetched = await consumer.getmany(timeout_ms=1000)
        now_s = time.time()
        for records in fetched.values():
            for record in records:
                if record.value is not None:
                    decision = orjson.loads(record.value)
                    arrivals.append(Arrival(decision["network"], decision["issued"], now_s))


def _complaints(arrivals: list[Arrival], newcomers: int) -> list[str]:
    got = Counter(arrival.network for arrival in arrivals)
    wanted = {_network(newcomer(tick)) for tick in range(newcomers)}
    missing, twice = len(wanted - set(got)), sum(count > 1 for count in got.values())
    others = len(set(got) - wanted)
    told = {"newcomers without a decision": missing, "newcomers with several": twice, "decisions on regulars": others}
    return [f"{what}: {count:,} of {newcomers:,}" for what, count in told.items() if count]


def _network(address: int) -> str:
    return ".".join(str(octet) for octet in address.to_bytes(4, "big")) + "/32"
