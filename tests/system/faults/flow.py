"""Events sent to Kafka during a fault: at a rate, from a thread of its own, then the rest at full speed.

All lines arrive once and in order, whatever happens to the broker, so the offered events are known. Events are of the last
evening. A restarted broker forgets an idempotent producer whose records are older than ``producer.id.expiration.ms``, a day.
Records that are sent again are then on the topic twice (seen with old events).
"""

from __future__ import annotations

import asyncio
import threading
import time
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from benchmarks.harness.traffic import EVENING_SPAN_MS, evening
from engine.kafka.event_producer import EventProducer

TICK_S = 0.05
REQUEST_TIMEOUT_MS = 120_000  # a broker may be unreachable for long
DAY_MS, EVENING_MS = 86_400_000, 21 * 3_600_000
HOT = b'{"ts":%d,"ip":"192.0.2.1"}\n'
TIME = slice(6, 19)  # in a line: {"ts":1750021200000,


@lru_cache(maxsize=4)
def lines(events: int, keys: int, *, hot: bool = False) -> list[bytes]:
    """Return ``events`` of six hours, in order; if ``hot``, every second one is of a single sender."""
    own = events // 2 if hot else events
    plain = b"".join(evening(own, keys, start_ms=_last_evening_ms()).chunks()).splitlines(keepends=True)
    return [line for each in plain for line in (each, HOT % int(each[TIME]))] if hot else plain


def _last_evening_ms() -> int:
    """Return the last 21:00 UTC that is at least six hours ago; the events cross midnight."""
    return (int(time.time() * 1000) - EVENING_SPAN_MS - EVENING_MS) // DAY_MS * DAY_MS + EVENING_MS


class Source:
    """The lines of a topic, sent in order through one producer; ``sent`` counts them."""

    def __init__(self, topic: str, partitions: int, all_lines: list[bytes], options: dict[str, Any]) -> None:
        self.lines, self.sent = all_lines, 0
        self._topic, self._partitions = topic, partitions
        self._options = options | {"request_timeout_ms": REQUEST_TIMEOUT_MS, "client_id": "edge"}

    def send(self, count: int) -> None:
        """Send the next ``count`` lines at full speed; return when the broker has acknowledged them."""
        asyncio.run(self._run(count, None, threading.Event()))

    def rest(self) -> None:
        """Send all remaining lines."""
        self.send(len(self.lines) - self.sent)

    def flow(self, rate: float) -> Flow:
        """Return a context that sends ``rate`` lines per second in a thread."""
        return Flow(self, rate)

    def run(self, rate: float, stop: threading.Event) -> None:
        """Send ``rate`` lines per second until ``stop``, or until all are sent."""
        asyncio.run(self._run(len(self.lines) - self.sent, rate, stop))

    async def _run(self, count: int, rate: float | None, stop: threading.Event) -> None:
        producer = EventProducer(self._topic, self._partitions, "lz4", self._options)
        await producer.start()
        try:
            first, begun_s = self.sent, time.monotonic()
            while self.sent < first + count and not stop.is_set():
                due = count if rate is None else min(count, int((time.monotonic() - begun_s) * rate))
                if due > self.sent - first:
                    await producer.send(b"".join(self.lines[self.sent : first + due]))
                    self.sent = first + due
                if rate is not None:
                    await asyncio.sleep(TICK_S)
        finally:
            await producer.stop()


class Flow:
    """A context in which a source sends at a rate. At its end the rest is sent, so that all lines have arrived."""

    def __init__(self, source: Source, rate: float) -> None:
        self._source, self._rate = source, rate
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._source.run(self._rate, self._stop)
        except BaseException as error:  # noqa: BLE001 (raised again at the end of the context)
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            if self._error is not None:
                raise self._error
            self._source.rest()
