"""What other workers' pages say, asked for by this one's: of a sender whose partition another has, and for the overview.

A question is a GET of our own to the place that its owner announced, with nothing of the asker's request in it but the sender:
no header, no token, no cookie. It is marked, and a worker answers a marked one from what it has itself or not at all, so
nothing goes in a circle. It has an end: `LOOK_S`, for a picture `PICTURE_S`, as drawing may take that long; `MOST_OCTETS`.
Whoever can't be asked is named, with what to do instead.

For overviews the others are asked while somebody looks, at most every `EVERY_S`; what isn't there after `PATIENCE_S` comes with
the next one. So one that doesn't answer costs the others' pages next to nothing.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import aiohttp
import orjson

from engine.config.load import Settings
from engine.web.peers import Distribution, Peer, numbered, page_of, peers_of
from topics.contracts import CONNECTIONS
from topics.errors import OperatorError

FORWARDED = "X-Tidegate-Forwarded"
PART, NAMES = "/v1/part", frozenset({"status", "complaints", "pulse", "movers"})
LOOK_S, PICTURE_S = 2.0, 8.0
EVERY_S, PATIENCE_S = 2.0, 0.3
MOST_OCTETS = 4 << 20
MOST_AT_ONCE = 32
MISTAKE = 400


class Unanswered(Exception):
    """There is no answer; the message says of whom, and why."""


class Parts(NamedTuple):
    """``others``: the parts of an overview that came; ``missing``: a sentence for each that didn't."""

    others: list[dict[str, Any]]
    missing: list[str]


def own_peer(settings: Settings) -> Peer:
    """This process, before it has a page."""
    instance = settings.worker.instance_id
    return Peer(f"{socket.gethostname()} {instance or os.getpid()}", "" if instance else secrets.token_hex(4), "")


class Fleet:
    """The workers around this one. ``distribution``: who has what now."""

    def __init__(self, settings: Settings, distribution: Callable[[], Distribution]) -> None:
        self.own = own_peer(settings)
        self._settings, self._distribution = settings, distribution
        self._topic = settings.topics.prefix + CONNECTIONS.name
        self._session: aiohttp.ClientSession | None = None
        self._asked_s = -EVERY_S
        self._asking: dict[Peer, asyncio.Task[dict[str, Any] | str]] = {}

    def announce(self, listening: Sequence[tuple[str, int]]) -> str:
        """The address that this worker gives, its page listening at these places."""
        page = page_of(self._settings.worker.http_advertised, listening, self.own.host)
        self.own = self.own._replace(page=page)
        return self.own.address

    async def stop(self) -> None:
        """Ask nobody any more."""
        for task in self._asking.values():
            task.cancel()
        if self._session is not None:
            await self._session.close()

    def others(self) -> list[Peer]:
        """The other workers that have partitions, in their order."""
        found = peers_of(self._distribution(), self._topic)
        return sorted(
            (one for one in found if one.partitions and not one.is_same(self.own)), key=lambda one: one.partitions
        )

    def unowned(self) -> list[int]:
        """The partitions that no worker has."""
        had = {number for one in peers_of(self._distribution(), self._topic) for number in one.partitions}
        return [number for number in range(self._settings.topics.partitions) if number not in had]

    async def ask(self, number: int, path: str, within_s: float) -> bytes:
        """What the owner of a partition answers. `OperatorError` with its complaint; `Unanswered`."""
        owner = next((one for one in self.others() if number in one.partitions), None)
        if owner is None:
            raise Unanswered(f"partition {number}, which no worker has now: ask again in a moment")
        try:
            return await self._get(owner, path, within_s)
        except Unanswered as error:
            raise Unanswered(f"partition {number}, which worker {owner.name} has; {error}") from None

    async def ask_object(self, number: int, path: str) -> dict[str, Any]:
        """The same, of what is a JSON object."""
        try:
            return _object(await self.ask(number, path, LOOK_S), frozenset())
        except ValueError:
            raise Unanswered(f"partition {number}, and what answers at its worker's address is no worker") from None

    async def parts(self) -> Parts:
        """The others' parts of an overview, as far as they are there."""
        peers = self.others()
        if time.monotonic() - self._asked_s >= EVERY_S and all(one.done() for one in self._asking.values()):
            self._asked_s = time.monotonic()
            self._asking = {one: asyncio.create_task(self._part(one)) for one in peers}
        if self._asking:
            await asyncio.wait(self._asking.values(), timeout=PATIENCE_S)
        parts = Parts([], [])
        for peer in peers:
            task = self._asking.get(peer)
            answer = task.result() if task is not None and task.done() else "it hasn't answered yet"
            if isinstance(answer, str):
                parts.missing.append(f"not shown: {numbered(peer.partitions)} of worker {peer.name}: {answer}")
            else:
                parts.others.append({**answer, "worker": peer.name})
        return parts

    async def _part(self, peer: Peer) -> dict[str, Any] | str:
        """A worker's part, or why it isn't there."""
        try:
            return _object(await self._get(peer, PART, LOOK_S), NAMES)
        except (Unanswered, OperatorError) as error:
            return str(error)
        except ValueError:
            return f"what answers at {peer.page} is no worker of this version: is that its worker.http_advertised?"

    async def _get(self, peer: Peer, path: str, within_s: float) -> bytes:
        if not peer.page:
            raise Unanswered("it has no page: give it a worker.http")
        if peer.is_local() and peer.host != self.own.host:
            raise Unanswered(
                f"its page at {peer.page} is for its own machine: look there, or give it a worker.http that others reach"
            )
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MOST_AT_ONCE), cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            async with asyncio.timeout(within_s):
                return await self._answer(self._session, peer, path)
        except TimeoutError:
            raise Unanswered(f"its page at {peer.page} hasn't answered within {within_s:g} s: look there") from None
        except (aiohttp.ClientError, OSError) as error:
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unanswered(
                f"its page at {peer.page} can't be reached from here ({said}): look there, or mend its worker.http_advertised"
            ) from None

    async def _answer(self, session: aiohttp.ClientSession, peer: Peer, path: str) -> bytes:
        marked = {FORWARDED: self.own.name}
        async with session.get(peer.page + path, headers=marked, allow_redirects=False) as response:
            body = bytearray()
            async for piece in response.content.iter_chunked(65_536):
                body += piece
                if len(body) > MOST_OCTETS:
                    raise Unanswered(f"its page at {peer.page} answers more than {MOST_OCTETS:,} octets")
            if response.status == MISTAKE:
                raise OperatorError(_error(bytes(body)))
            if response.status != 200:
                raise Unanswered(
                    f"its page at {peer.page} answered with status {response.status}: is that its worker.http_advertised?"
                )
            return bytes(body)


def _object(body: bytes, names: frozenset[str]) -> dict[str, Any]:
    """A JSON object that has all ``names``; ValueError."""
    found = orjson.loads(body)
    if not isinstance(found, dict) or not found.keys() >= names:
        raise ValueError("another object")
    return found


def _error(body: bytes) -> str:
    try:
        return str(_object(body, frozenset({"error"}))["error"])
    except ValueError:
        return "the worker that was asked refuses the question"
