"""Requests to other workers' pages: for a sender whose partition another worker owns, and for the overview.

A request is a GET of our own to the address that the owner announced. It carries nothing of the reader's request but the
sender: no header, token or cookie. It has the header `FORWARDED`; a worker replies to such a request from its own state or
with an error, so requests never loop. Limits: `PAGE_TIMEOUT_S`, `PLOT_TIMEOUT_S` for a plot, `MAX_BYTES` for a reply. The
error for an unavailable worker names it and a remedy.

Overviews query the other workers at most every `EVERY_S`, and only while a reader has the page open. A part that is missing
after `OVERVIEW_WAIT_S` appears in the next overview, so an unresponsive worker hardly delays the page.
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
from engine.web.peers import Distribution, Peer, page_address, parse_peers, partitions_text
from topics.contracts import CONNECTIONS
from topics.errors import OperatorError

FORWARDED = "X-Tidegate-Forwarded"
PART, PART_FIELDS = "/v1/part", frozenset({"status", "problems", "rates", "top_senders"})
PAGE_TIMEOUT_S, PLOT_TIMEOUT_S = 2.0, 8.0
EVERY_S, OVERVIEW_WAIT_S = 2.0, 0.3
MAX_BYTES = 4 << 20
MAX_CONNECTIONS = 32
BAD_REQUEST = 400


class PeerUnavailable(Exception):
    """No worker replied; the message names the worker and the reason."""


class PeerParts(NamedTuple):
    """The other workers' parts of an overview."""

    others: list[dict[str, Any]]
    missing: list[str]  # a sentence for each worker without a part


def local_peer(settings: Settings) -> Peer:
    """Return this process as a peer without a page."""
    instance = settings.worker.instance_id
    return Peer(f"{socket.gethostname()} {instance or os.getpid()}", "" if instance else secrets.token_hex(4), "")


class PeerClient:
    """HTTP client for the other workers of the site. ``distribution`` returns the current assignment."""

    def __init__(self, settings: Settings, distribution: Callable[[], Distribution]) -> None:
        self.own = local_peer(settings)
        self._settings, self._distribution = settings, distribution
        self._topic = settings.topics.prefix + CONNECTIONS.name
        self._session: aiohttp.ClientSession | None = None
        self._requested_s = -EVERY_S
        self._requests: dict[Peer, asyncio.Task[dict[str, Any] | str]] = {}

    def announce(self, listening: Sequence[tuple[str, int]]) -> str:
        """Return the address that this worker announces for a page that listens on these hosts and ports."""
        page = page_address(self._settings.worker.http_advertised, listening, self.own.host)
        self.own = self.own._replace(page=page)
        return self.own.address

    async def stop(self) -> None:
        """Cancel all requests and close the connections."""
        for task in self._requests.values():
            task.cancel()
        if self._session is not None:
            await self._session.close()

    def others(self) -> list[Peer]:
        """Return the other workers that own partitions, in the order of their partitions."""
        peers = parse_peers(self._distribution(), self._topic)
        return sorted(
            (peer for peer in peers if peer.partitions and not peer.is_same(self.own)), key=lambda peer: peer.partitions
        )

    def unowned(self) -> list[int]:
        """Return the partitions without an owner."""
        owned = {number for peer in parse_peers(self._distribution(), self._topic) for number in peer.partitions}
        return [number for number in range(self._settings.topics.partitions) if number not in owned]

    async def get(self, number: int, path: str, timeout_s: float) -> bytes:
        """Return the reply of a partition's owner; `OperatorError` with its error text, or `PeerUnavailable`."""
        owner = next((peer for peer in self.others() if number in peer.partitions), None)
        if owner is None:
            raise PeerUnavailable(f"partition {number}, which no worker owns now: try again in a few seconds")
        try:
            return await self._get(owner, path, timeout_s)
        except PeerUnavailable as error:
            raise PeerUnavailable(f"partition {number}, which worker {owner.name} owns; {error}") from None

    async def get_object(self, number: int, path: str) -> dict[str, Any]:
        """Do the same for a reply that is a JSON object."""
        try:
            return _object(await self.get(number, path, PAGE_TIMEOUT_S), frozenset())
        except ValueError:
            raise PeerUnavailable(f"partition {number}, but the server at its owner's address is no worker") from None

    async def parts(self) -> PeerParts:
        """Return the other workers' parts of an overview, as far as they have arrived."""
        peers = self.others()
        if time.monotonic() - self._requested_s >= EVERY_S and all(task.done() for task in self._requests.values()):
            self._requested_s = time.monotonic()
            self._requests = {peer: asyncio.create_task(self._part(peer)) for peer in peers}
        if self._requests:
            await asyncio.wait(self._requests.values(), timeout=OVERVIEW_WAIT_S)
        parts = PeerParts([], [])
        for peer in peers:
            task = self._requests.get(peer)
            part = task.result() if task is not None and task.done() else "no reply yet"
            if isinstance(part, str):
                parts.missing.append(f"not shown: {partitions_text(peer.partitions)} of worker {peer.name}: {part}")
            else:
                parts.others.append({**part, "worker": peer.name})
        return parts

    async def _part(self, peer: Peer) -> dict[str, Any] | str:
        """Return a worker's part, or the reason why it is missing."""
        try:
            return _object(await self._get(peer, PART, PAGE_TIMEOUT_S), PART_FIELDS)
        except (PeerUnavailable, OperatorError) as error:
            return str(error)
        except ValueError:
            return f"the server at {peer.page} is no worker of this version: is that its worker.http_advertised?"

    async def _get(self, peer: Peer, path: str, timeout_s: float) -> bytes:
        if not peer.page:
            raise PeerUnavailable("it has no page: set its worker.http")
        if peer.is_local() and peer.host != self.own.host:
            raise PeerUnavailable(
                f"its page at {peer.page} is reachable from its own machine only: open it there, "
                "or set a worker.http that others reach"
            )
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS), cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            async with asyncio.timeout(timeout_s):
                return await self._read(self._session, peer, path)
        except TimeoutError:
            raise PeerUnavailable(
                f"its page at {peer.page} didn't reply within {timeout_s:g} s: open it there"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise PeerUnavailable(
                f"its page at {peer.page} can't be reached from here ({reason}): open it there, "
                "or correct its worker.http_advertised"
            ) from None

    async def _read(self, session: aiohttp.ClientSession, peer: Peer, path: str) -> bytes:
        headers = {FORWARDED: self.own.name}
        async with session.get(peer.page + path, headers=headers, allow_redirects=False) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(65_536):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise PeerUnavailable(f"its page at {peer.page} replied with more than {MAX_BYTES:,} bytes")
            if response.status == BAD_REQUEST:
                raise OperatorError(_error_text(bytes(body)))
            if response.status != 200:
                raise PeerUnavailable(
                    f"its page at {peer.page} replied with status {response.status}: is that its worker.http_advertised?"
                )
            return bytes(body)


def _object(body: bytes, names: frozenset[str]) -> dict[str, Any]:
    """Return the JSON object in ``body``; ValueError if it is none or lacks one of ``names``."""
    value = orjson.loads(body)
    if not isinstance(value, dict) or not value.keys() >= names:
        raise ValueError("another object")
    return value


def _error_text(body: bytes) -> str:
    try:
        return str(_object(body, frozenset({"error"}))["error"])
    except ValueError:
        return "the other worker refused the request"
