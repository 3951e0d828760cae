"""What a contender bears, and how quickly it answers: open load (`load.py`), latency from the moment an event was due.

- **Sustainable rate**: the load rises level by level, in one run of the contender, so that a Java has compiled itself by
  the time that it counts. A level is borne if its probes are all decided and their latency doesn't grow within it: the median
  of its last quarter is at most `GROWTH_MS` above that of its second; who is 15 % too slow falls behind by 390 ms
  from one to the other. The second level in a row that isn't borne ends the search.
- **Latency** at 70 % of that rate: p50, p99, p99.9 and the most, the first part left out; every probe must be decided, once.
- **Catching up**: half of that rate goes on for a while before the contender is started; how long until a probe is decided
  within a second of its event.

Broker, load and contender share the machine's cores. A level that the load itself is too slow for isn't borne.
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
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from hdrh.histogram import HdrHistogram

from benchmarks.contest.load import MOST_PROBES, TICK_MS, probe, ticks_of
from benchmarks.harness.cluster import Place

LOAD = Path(__file__).with_name("load.py")
GROWTH_MS = 150.0
LOAD_LATE_MS = 250.0
FAILURES = 2  # levels in a row that end the search: one may be a pause of the machine
DRAIN_S = 20.0
SHARE_FOR_LATENCY, SHARE_FOR_BACKLOG = 0.7, 0.5
WARM_UP_SHARE = 0.4
CAUGHT_UP_MS = 1000.0
MOST_US = 600_000_000


class Level(NamedTuple):
    """One level of a rising load: ``p50_ms`` of its last quarter, ``growth_ms`` against its second; None: none decided."""

    rate: int
    p50_ms: float | None
    growth_ms: float | None
    undecided: int
    load_late_ms: float
    borne: bool


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the moment an event was due to its decision's arrival at a reader."""

    rate: int
    decisions: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    most_ms: float
    load_late_ms: float
    complaints: list[str]


class Watched(NamedTuple):
    """A contender at work under load: where events go, where decisions come from and the partitions of that topic."""

    place: Place
    decisions: str
    partitions: int


class SteadyLoad(NamedTuple):
    """``rate`` events a second of so many ``regulars`` for ``seconds``."""

    rate: int
    seconds: float
    regulars: int


Start = Callable[[Place], AbstractContextManager[Watched]]


@dataclass
class Flow:
    """What came of a load: when its first batch was due, what it said, when each probe's decision arrived (Unix ms), how
    many came a second time; ``complete``: as many probes as ``wanted`` are decided."""

    first_ms: int = 0
    levels: list[dict[str, float]] = field(default_factory=list)
    end: dict[str, float] = field(default_factory=dict)
    arrived_ms: dict[int, float] = field(default_factory=dict)
    repeated: int = 0
    wanted: int = MOST_PROBES
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def latencies(self, first: int, behind: int) -> list[float]:
        """Of the probes of ticks ``first`` to before ``behind``, those decided, in ms."""
        due = ((tick, self.first_ms + tick * TICK_MS) for tick in range(first, behind))
        return [self.arrived_ms[tick] - due_ms for tick, due_ms in due if tick in self.arrived_ms]


def _arguments(place: Place, rates: list[int], level_s: float, regulars: int) -> list[str]:
    told = {"bootstrap": place.bootstrap, "prefix": place.prefix, "level-s": level_s, "regulars": regulars}
    return [*(word for name, value in told.items() for word in (f"--{name}", str(value))), "--rates", *map(str, rates)]


@asynccontextmanager
async def _loading(
    place: Place, rates: list[int], level_s: float, regulars: int
) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(LOAD), *_arguments(place, rates, level_s, regulars),
        stdout=asyncio.subprocess.PIPE, env=place.environment(),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if not process.stdout.at_eof():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()


@asynccontextmanager
async def _reading(watched: Watched, flow: Flow) -> AsyncIterator[None]:
    """Note arriving decisions as long as the block lasts."""
    first, behind = probe(0), probe(MOST_PROBES)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=watched.place.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50
    )
    await consumer.start()

    async def read() -> None:
        while True:
            fetched = await consumer.getmany(timeout_ms=200)
            now_ms = time.time() * 1000
            for record in (record for records in fetched.values() for record in records):
                number = _address(record.key)
                if record.value is not None and first <= number < behind:
                    tick = number - first
                    flow.repeated += tick in flow.arrived_ms
                    flow.arrived_ms.setdefault(tick, now_ms)
            if len(flow.arrived_ms) >= flow.wanted:
                flow.complete.set()

    consumer.assign([TopicPartition(watched.decisions, number) for number in range(watched.partitions)])
    task = asyncio.create_task(read())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await consumer.stop()


def _address(key: bytes) -> int:
    """The number of an IPv4 address, -1 for others."""
    parts = key.removesuffix(b"/32").split(b".")
    return int.from_bytes(bytes(map(int, parts)), "big") if len(parts) == 4 else -1


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    while line := await stream.readline():
        told: dict[str, Any] = orjson.loads(line)
        yield told


async def _climb(watched: Watched, rates: list[int], level_s: float, regulars: int) -> list[Level]:
    flow, found = Flow(), list[Level]()
    async with _reading(watched, flow), _loading(watched.place, rates, level_s, regulars) as said:
        async for told in _lines(said):
            if "first_ms" in told:
                flow.first_ms = int(told["first_ms"])
            elif "rate" in told:
                await asyncio.sleep(0.1)
                found.append(judged(flow, len(found), level_s, told))
                if not any(level.borne for level in found[-FAILURES:]) and len(found) >= FAILURES:
                    break
    return found


def judged(flow: Flow, number: int, level_s: float, told: dict[str, Any]) -> Level:
    """Judge a level that has just ended."""
    ticks = ticks_of(level_s)
    first, quarter = number * ticks, ticks // 4
    early = flow.latencies(first + quarter, first + 2 * quarter)
    late = flow.latencies(first + 3 * quarter, first + ticks - ticks // 20)
    undecided = (ticks - ticks // 20 - 3 * quarter) - len(late)
    p50_ms = statistics.median(late) if late else None
    growth_ms = p50_ms - statistics.median(early) if early and p50_ms is not None else None
    allowed = (ticks - 3 * quarter) // 2  # those of the last moments, if decisions take about a second
    borne = (
        growth_ms is not None and growth_ms <= GROWTH_MS and undecided <= allowed and told["late_ms"] <= LOAD_LATE_MS
    )
    return Level(int(told["rate"]), p50_ms, growth_ms, undecided, told["late_ms"], borne)


def climb(start: Start, place: Place, rates: list[int], level_s: float, regulars: int) -> list[Level]:
    """The levels of a rising load, up to the second in a row that isn't borne."""
    with start(place) as watched:
        return asyncio.run(_climb(watched, rates, level_s, regulars))


def sustainable(levels: list[Level]) -> int:
    """The highest rate that was borne; 0 if none was."""
    return max((level.rate for level in levels if level.borne), default=0)


async def _steady(watched: Watched, load: SteadyLoad) -> Flow:
    flow, rates = Flow(), [load.rate]
    async with _reading(watched, flow), _loading(watched.place, rates, load.seconds, load.regulars) as said:
        async for told in _lines(said):
            if "first_ms" in told:
                flow.first_ms = int(told["first_ms"])
            elif "rate" in told:
                flow.levels.append(told)
            else:
                flow.end = told
        flow.wanted = int(flow.end["probes"])
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(flow.complete.wait(), DRAIN_S)
    return flow


def latency(start: Start, place: Place, load: SteadyLoad) -> Latency:
    """Latency under a steady load."""
    with start(place) as watched:
        flow = asyncio.run(_steady(watched, load))
    probes = int(flow.end["probes"])
    histogram = HdrHistogram(1, MOST_US, 3)
    for each_ms in flow.latencies(int(probes * WARM_UP_SHARE), probes):
        histogram.record_value(max(1, int(each_ms * 1000)))
    p50, p99, p999 = (histogram.get_value_at_percentile(share) / 1000 for share in (50, 99, 99.9))
    missing = probes - len(flow.arrived_ms)
    wrong = [f"{missing:,} of {probes:,} probes have no decision"] if missing else []
    wrong += [f"{flow.repeated:,} decisions on probes came twice"] if flow.repeated else []
    return Latency(
        load.rate,
        histogram.get_total_count(),
        p50,
        p99,
        p999,
        histogram.get_max_value() / 1000,
        flow.levels[0]["late_ms"],
        wrong,
    )


async def _caught_up(watched: Watched, flow: Flow, load: subprocess.Popen[bytes]) -> float | None:
    """When (Unix ms) the first decision arrived within `CAUGHT_UP_MS` of its event; None if the load ended before."""
    async with _reading(watched, flow):
        while load.poll() is None:
            for tick, at_ms in flow.arrived_ms.items():
                if at_ms - flow.first_ms - tick * TICK_MS < CAUGHT_UP_MS:
                    return at_ms
            await asyncio.sleep(0.05)
    return None


def catch_up(start: Start, place: Place, load: SteadyLoad, behind_s: float) -> float | None:
    """Seconds from a contender's start until it has worked off the load of ``behind_s``; None: not within the load's time."""
    command = [sys.executable, str(LOAD), *_arguments(place, [load.rate], load.seconds, load.regulars)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=place.environment()) as process:
        try:
            assert process.stdout is not None
            flow = Flow(first_ms=json.loads(process.stdout.readline())["first_ms"])
            time.sleep(behind_s)
            started_ms = time.time() * 1000
            with start(place) as watched:
                caught_ms = asyncio.run(_caught_up(watched, flow, process))
        finally:
            process.kill()
    return None if caught_ms is None else (caught_ms - started_ms) / 1000
