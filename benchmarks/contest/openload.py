"""Sustainable rate, latency and catching up of a contender under open load (`load.py`).

- **Sustainable rate**: the load rises level by level in one run, so that a Java has compiled itself when it counts. A level
  is sustained if its probes are all decided and the median latency of its last quarter is at most `GROWTH_MS` above that of its
  second. A contender that is 15 % too slow loses 390 ms. The second level in a row that isn't sustained ends the search.
- **Latency** at 70 % of that rate, from the time at which an event was due. Every probe must be decided, once.
- **Catching up**: half of that rate goes on for a while before the contender is started. Measured is the time until a probe
  is decided within a second of its event.

Broker, load and contender share the machine's cores. A level that the load itself is too slow for isn't sustained.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from hdrh.histogram import HdrHistogram

from benchmarks.contest.load import MOST_PROBES, TICK_MS, probe, ticks_of
from benchmarks.harness.results import ROOT
from benchmarks.harness.topic_space import TopicSpace

GROWTH_MS = 150.0
LOAD_LATE_MS = 250.0
FAILURES = 2  # levels in a row that end the search: one may be a pause of the machine
DRAIN_S = 20.0
WARM_UP_SHARE = 0.4
CAUGHT_UP_MS = 1000.0
MOST_US = 600_000_000


@dataclass(frozen=True)
class Level:
    """One level of a rising load."""

    rate: int
    p50_ms: float | None  # of its last quarter; None: no probe was decided
    growth_ms: float | None  # since its second quarter
    undecided: int
    load_late_ms: float
    borne: bool  # sustained; the results keep the word


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the time at which an event was due until its decision arrived at a reader."""

    rate: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    most_ms: float
    complaints: list[str]


class LoadedContender(NamedTuple):
    """A contender at work under load."""

    space: TopicSpace  # its events
    decisions: str  # topic
    partitions: int  # of that topic


class SteadyLoad(NamedTuple):
    """A load of one level."""

    rate: int  # events per second
    seconds: float
    regulars: int


Start = Callable[[TopicSpace], AbstractContextManager[LoadedContender]]


@dataclass
class Flow:
    """The messages of a load, and when decisions on its probes arrived."""

    first_ms: int = 0  # when the first batch was due
    end: dict[str, float] = field(default_factory=dict)
    arrived_ms: dict[int, float] = field(default_factory=dict)  # by tick, Unix time
    repeated: int = 0  # decisions that arrived a second time
    wanted: int = MOST_PROBES
    complete: asyncio.Event = field(default_factory=asyncio.Event)  # `wanted` probes are decided

    def latencies_ms(self, first: int, end: int) -> list[float]:
        """Return those of the decided probes of ticks ``first`` to before ``end``."""
        due = ((tick, self.first_ms + tick * TICK_MS) for tick in range(first, end))
        return [self.arrived_ms[tick] - due_ms for tick, due_ms in due if tick in self.arrived_ms]


def _command(space: TopicSpace, rates: list[int], level_s: float, regulars: int) -> list[str]:
    options = {"bootstrap": space.bootstrap, "prefix": space.prefix, "level-s": level_s, "regulars": regulars}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "benchmarks.contest.load", *words, "--rates", *map(str, rates)]


@asynccontextmanager
async def _loading(
    space: TopicSpace, rates: list[int], level_s: float, regulars: int
) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        *_command(space, rates, level_s, regulars), stdout=asyncio.subprocess.PIPE, env=space.environment(), cwd=ROOT
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if not process.stdout.at_eof():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()


@asynccontextmanager
async def _reading(loaded: LoadedContender, flow: Flow) -> AsyncIterator[None]:
    """Record arriving decisions as long as the block lasts."""
    first, end = probe(0), probe(MOST_PROBES)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=loaded.space.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50
    )
    await consumer.start()

    async def read() -> None:
        while True:
            fetched = await consumer.getmany(timeout_ms=200)
            now_ms = time.time() * 1000
            for record in (record for records in fetched.values() for record in records):
                number = _address(record.key)
                if record.value is not None and first <= number < end:
                    tick = number - first
                    flow.repeated += tick in flow.arrived_ms
                    flow.arrived_ms.setdefault(tick, now_ms)
            if len(flow.arrived_ms) >= flow.wanted:
                flow.complete.set()

    consumer.assign([TopicPartition(loaded.decisions, number) for number in range(loaded.partitions)])
    task = asyncio.create_task(read())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await consumer.stop()


def _address(key: bytes) -> int:
    """Return the number of an IPv4 address, -1 for others."""
    parts = key.removesuffix(b"/32").split(b".")
    return int.from_bytes(bytes(map(int, parts)), "big") if len(parts) == 4 else -1


async def _messages(stream: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    while line := await stream.readline():
        message: dict[str, Any] = orjson.loads(line)
        yield message


async def _climb(loaded: LoadedContender, rates: list[int], level_s: float, regulars: int) -> list[Level]:
    flow, found = Flow(), list[Level]()
    async with _reading(loaded, flow), _loading(loaded.space, rates, level_s, regulars) as stream:
        async for message in _messages(stream):
            if "first_ms" in message:
                flow.first_ms = int(message["first_ms"])
            elif "rate" in message:
                await asyncio.sleep(0.1)
                found.append(judged(flow, len(found), level_s, message))
                if not any(level.borne for level in found[-FAILURES:]) and len(found) >= FAILURES:
                    break
    return found


def judged(flow: Flow, number: int, level_s: float, message: dict[str, Any]) -> Level:
    """Judge a level that has just ended; ``message`` is the load's about it."""
    ticks = ticks_of(level_s)
    first, quarter = number * ticks, ticks // 4
    early_ms = flow.latencies_ms(first + quarter, first + 2 * quarter)
    late_ms = flow.latencies_ms(first + 3 * quarter, first + ticks - ticks // 20)
    undecided = (ticks - ticks // 20 - 3 * quarter) - len(late_ms)
    p50_ms = statistics.median(late_ms) if late_ms else None
    growth_ms = p50_ms - statistics.median(early_ms) if early_ms and p50_ms is not None else None
    allowed = (ticks - 3 * quarter) // 2  # probes of the last half second or so, which may be undecided
    is_in_time = message["late_ms"] <= LOAD_LATE_MS
    borne = growth_ms is not None and growth_ms <= GROWTH_MS and undecided <= allowed and is_in_time
    return Level(int(message["rate"]), p50_ms, growth_ms, undecided, message["late_ms"], borne)


def climb(start: Start, space: TopicSpace, rates: list[int], level_s: float, regulars: int) -> list[Level]:
    """Return the levels of a rising load, up to the second in a row that isn't sustained."""
    with start(space) as loaded:
        return asyncio.run(_climb(loaded, rates, level_s, regulars))


def sustainable(levels: list[Level]) -> int:
    """Return the highest rate that was sustained, 0 if none was."""
    return max((level.rate for level in levels if level.borne), default=0)


async def _steady(loaded: LoadedContender, load: SteadyLoad) -> Flow:
    flow, rates = Flow(), [load.rate]
    async with _reading(loaded, flow), _loading(loaded.space, rates, load.seconds, load.regulars) as stream:
        async for message in _messages(stream):
            if "first_ms" in message:
                flow.first_ms = int(message["first_ms"])
            elif "probes" in message:
                flow.end = message
        flow.wanted = int(flow.end["probes"])
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(flow.complete.wait(), DRAIN_S)
    return flow


def latency(start: Start, space: TopicSpace, load: SteadyLoad) -> Latency:
    """Return the latency under a steady load."""
    with start(space) as loaded:
        flow = asyncio.run(_steady(loaded, load))
    probes = int(flow.end["probes"])
    histogram = HdrHistogram(1, MOST_US, 3)
    for each_ms in flow.latencies_ms(int(probes * WARM_UP_SHARE), probes):
        histogram.record_value(max(1, int(each_ms * 1000)))
    p50, p99, p999 = (histogram.get_value_at_percentile(share) / 1000 for share in (50, 99, 99.9))
    most = histogram.get_max_value() / 1000
    missing = probes - len(flow.arrived_ms)
    wrong = [f"{missing:,} of {probes:,} probes have no decision"] if missing else []
    wrong += [f"{flow.repeated:,} decisions on probes came twice"] if flow.repeated else []
    return Latency(load.rate, p50, p99, p999, most, wrong)


async def _caught_up(loaded: LoadedContender, flow: Flow, load: subprocess.Popen[bytes]) -> float | None:
    """Return when (Unix ms) a decision first arrived within `CAUGHT_UP_MS` of its event, None if the load ended before."""
    async with _reading(loaded, flow):
        while load.poll() is None:
            for tick, at_ms in flow.arrived_ms.items():
                if at_ms - flow.first_ms - tick * TICK_MS < CAUGHT_UP_MS:
                    return at_ms
            await asyncio.sleep(0.05)
    return None


def catch_up(start: Start, space: TopicSpace, load: SteadyLoad, lag_s: float) -> float | None:
    """Return the seconds from a contender's start until it has worked off ``lag_s`` of load, None if the load ends before."""
    command = _command(space, [load.rate], load.seconds, load.regulars)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=space.environment(), cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            flow = Flow(first_ms=json.loads(process.stdout.readline())["first_ms"])
            time.sleep(lag_s)
            started_ms = time.time() * 1000
            with start(space) as loaded:
                caught_ms = asyncio.run(_caught_up(loaded, flow, process))
        finally:
            process.kill()
    return None if caught_ms is None else (caught_ms - started_ms) / 1000
