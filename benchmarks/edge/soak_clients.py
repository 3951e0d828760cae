"""The soak's clients that aren't measured: thousands of idle ones, and those that drip requests or send garbage.

Opens ``--idle`` policy connections, each of which asks once, and prints "ready". A line on standard input starts the hostile
clients. Half of ``--dripping`` clients send policy requests, half HTTP headers, a byte or a line at a time, and start again
when they are closed. ``--garbage`` connections per second send random bytes, to both ports. Another line ends it and prints
one JSON object: how many clients were closed, and how many idle connections were lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import orjson
import uvloop

REQUEST = (
    "request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=203.0.113.9\nclient_port={}\ninstance=idle\n\n"
)
DRIP_S = 0.2
PARALLEL = 200
HEADERS = b"GET /health HTTP/1.1\r\n", b"X-Slow: yes\r\n"


class Clients:
    """All clients, and counts of what happened to them (``seen``)."""

    def __init__(self, policy: int, http: int) -> None:
        self.seen: Counter[str] = Counter()
        self._policy, self._http = policy, http
        self._draw = random.Random(1)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def settle(self, count: int) -> None:
        """Open the idle connections."""
        for first in range(0, count, PARALLEL):
            numbers = range(first, min(first + PARALLEL, count))
            self._idle += await asyncio.gather(*[self._idle_connection(number) for number in numbers])

    async def _idle_connection(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._policy)
        writer.write(REQUEST.format(number).encode())
        await reader.readuntil(b"\n\n")
        return reader, writer

    async def drip(self, number: int) -> None:
        """Run one slow client after the other."""
        while True:
            http = bool(number % 2)
            await self._talk(self._http if http else self._policy, partial(self._send_slowly, http=http))
            self.seen["cut off"] += 1

    async def _send_slowly(self, writer: asyncio.StreamWriter, *, http: bool) -> None:
        writer.write(HEADERS[0] if http else b"request=")
        while not writer.is_closing():
            await asyncio.sleep(DRIP_S)
            writer.write(HEADERS[1] if http else b"x")
            await writer.drain()

    async def spoil(self, per_s: float) -> None:
        """Send garbage repeatedly."""
        while True:
            port = self._draw.choice((self._policy, self._http))
            garbage = self._draw.randbytes(self._draw.randrange(1, 3000)) + b"\n\n"
            await self._talk(port, partial(self._send_garbage, garbage=garbage))
            self.seen["garbage"] += 1
            await asyncio.sleep(1 / per_s)

    async def _send_garbage(self, writer: asyncio.StreamWriter, *, garbage: bytes) -> None:
        writer.write(garbage)
        await writer.drain()

    async def _talk(self, port: int, talk: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
        """Open a connection and talk until the edge closes it."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            talking = asyncio.ensure_future(talk(writer))
            try:
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(10):
                        while await reader.read(65_536):
                            pass
            finally:
                talking.cancel()
                await asyncio.wait([talking])
                writer.transport.abort()

    def lost(self) -> int:
        """Return how many idle connections the edge has closed."""
        return sum(reader.at_eof() or writer.is_closing() for reader, writer in self._idle)


async def run(given: argparse.Namespace) -> None:
    """Run all steps."""
    clients = Clients(given.policy, given.http)
    await clients.settle(given.idle)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    hostile = [asyncio.create_task(clients.drip(number)) for number in range(given.dripping)]
    hostile.append(asyncio.create_task(clients.spoil(given.garbage)))
    await asyncio.to_thread(sys.stdin.readline)
    lost = clients.lost()
    for task in hostile:
        task.cancel()
    await asyncio.wait(hostile)
    failed = [task.exception() for task in hostile if not task.cancelled()]
    if failed:
        raise RuntimeError(f"hostile clients ended: {failed!r}")
    print(orjson.dumps({**clients.seen, "idle lost": lost}).decode(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("policy", "http", "idle", "dripping"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--garbage", type=float, required=True, help="connections a second")
    uvloop.run(run(parser.parse_args()))
