"""The edge as a process: everything put together, served until SIGINT or SIGTERM, then ended in order.

Listening comes first and never waits for Kafka: an edge that has heard nothing answers "no opinion". At the end no more is
taken in, the connections still open become events, and what Kafka doesn't take within `LAST_S` waits on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from engine.config.edge_options import EdgeOptions
from engine.config.load import Settings
from engine.config.validators import ListenAddress, split_list
from engine.edge.aggregate import SAY_S, ProcessAggregate
from engine.edge.connections import ConnectionTracker
from engine.edge.decision_feed import DecisionFeed, FeedOptions
from engine.edge.delivery import Delivery, DeliveryOptions
from engine.edge.metrics import EdgeParts, health, prometheus
from engine.edge.prefork import STOPPING, ProcessSlot, Supervisor
from engine.edge.protocols.dns import DnsSession, Zone
from engine.edge.protocols.http import Pages
from engine.edge.protocols.milter import MilterSession
from engine.edge.protocols.opensmtpd import OpensmtpdSession
from engine.edge.protocols.policy import PolicySession
from engine.edge.protocols.readsocket import ReadsocketSession
from engine.edge.protocols.session import ProtocolSession
from engine.edge.protocols.socketmap import SocketmapSession
from engine.edge.protocols.tcptable import TcpTableSession
from engine.edge.reply import ReplyText
from engine.edge.servers import (
    ClientLimits,
    Clients,
    Datagrams,
    Wire,
    listen,
    listen_datagrams,
    notify_ready,
    now_ms,
    opened,
)
from engine.edge.service import EdgeService
from engine.edge.shadow import EdgeShadow
from engine.edge.spool import Spool
from engine.edge.state_dir import StateDir
from engine.edge.table import DecisionTable
from engine.edge.web import web_protocol
from topics.errors import OperatorError

logger = logging.getLogger(__name__)
LAST_S = 5.0
MOST_CANCELS = 5
GC_THRESHOLDS = 2_000, 5, 5
TIDY_S = 0.1
TIDY_ROWS = 2_000
REMARKS_AT_ONCE = 20
Served = asyncio.Server | asyncio.DatagramTransport


class Edge:
    """One edge with these settings, or one process of it; ``doors``: where it is asked, by protocol."""

    def __init__(self, settings: Settings, folder: StateDir, doors: Mapping[str, list[ListenAddress]], seat: ProcessSlot) -> None:
        options = settings.edge
        self.options, self.folder, self.doors, self.seat = options, folder, doors, seat
        client_options = settings.kafka.client_options()
        folder.keeps = seat.number == 1
        folders = [process_folder(folder.path, number) for number in range(1, seat.of + 1)]
        table = DecisionTable(options.max_decisions)
        self.desk = EdgeService(
            table,
            ConnectionTracker(options.quiet_ms, reported=options.events == "on"),
            ReplyText(options.reply_text),
            EdgeShadow(
                everything=options.mode == "shadow",
                reasons=split_list(options.shadow_reasons),
                networks=split_list(options.shadow_networks),
            ),
        )
        stale_after_ms = options.stale_after_s * 1000
        self.follower = DecisionFeed(
            table, FeedOptions(settings.topics.prefix, stale_after_ms, options.heartbeat_ms, client_options, seat.of)
        )
        self.clients = Clients(
            ClientLimits(options.max_connections, options.request_timeout_ms / 1000, options.idle_timeout_s)
        )
        spool = Spool(folders[seat.number - 1] / "spool", options.spool_mb << 20)
        mta = options.name or socket.gethostname()
        name = mta if seat.number == 1 else f"{mta}/{seat.number}"
        batch_s, heartbeat_s = options.batch_ms / 1000, options.heartbeat_ms / 1000
        self.delivery = Delivery(
            self.desk.connections,
            spool,
            DeliveryOptions(name, mta, settings.topics.prefix, batch_s, heartbeat_s, client_options),
        )
        parts = EdgeParts(self.desk, self.follower, self.clients, spool, self.delivery, folder)
        self.health, self.metrics = partial(health, parts), partial(prometheus, parts)
        self.together = ProcessAggregate(folders, seat.number, self.health, self.metrics)
        header = folder.load(table, now_ms() - stale_after_ms)
        if header is not None:
            self.follower.resume(header.positions, header.heard_ms)

    async def run(self) -> None:
        """Serve until told to stop."""
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, stopping.set)
        if self.seat.parent >= 0:
            loop.add_reader(self.seat.parent, self._orphaned, stopping)
        servers = await self._serve()
        notify_ready()
        work: list[Coroutine[Any, Any, None]] = [self.follower.run(), self.delivery.beat()]
        work += [self._tidy()]
        work += [self._save()] if self.folder.keeps else []
        work += [self._say()] if self.seat.of > 1 else []
        if self.options.events == "on":
            work += [self.delivery.collect(), self.delivery.deliver()]
        tasks = [asyncio.create_task(coroutine) for coroutine in work]
        waiting = asyncio.create_task(stopping.wait())
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for server in servers:
            server.close()
        try:
            for task in done - {waiting}:
                task.result()
        finally:
            await self._end(tasks)

    def _orphaned(self, stopping: asyncio.Event) -> None:
        asyncio.get_running_loop().remove_reader(self.seat.parent)
        stopping.set()

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        self.desk.connections.end_all()
        if self.options.events == "on":
            await self.delivery.flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.delivery.drain(), LAST_S)
        await self._save_now()
        await end_tasks(tasks, LAST_S)

    def _listeners(self) -> Iterator[tuple[str, Callable[[], asyncio.Protocol]]]:
        """Each protocol's name, and what makes a client's wire."""
        yield "policy", self._wires(PolicySession)
        yield "milter", self._wires(MilterSession)
        yield "socketmap", self._wires(SocketmapSession)
        yield "tcp_table", self._wires(TcpTableSession)
        yield "readsocket", self._wires(ReadsocketSession)
        yield "opensmtpd", self._wires(OpensmtpdSession)
        yield "dns", self._wires(partial(DnsSession, zone=self.options.dns_zone))
        said = self.together if self.seat.of > 1 else self
        pages = Pages(self.desk, said.health, said.metrics)
        yield "http", web_protocol(pages, self.clients, self.options.request_bytes)

    def _wires(self, session: Callable[..., ProtocolSession]) -> Callable[[], asyncio.Protocol]:
        return lambda: Wire(session(self.desk, limit=self.options.request_bytes), self.clients)

    async def _serve(self) -> list[Served]:
        servers: list[Served] = []
        for name, protocol in self._listeners():
            for place in self.doors[name]:
                servers += await self._open(name, place, protocol)
        return servers

    async def _open(self, name: str, place: ListenAddress, protocol: Callable[[], asyncio.Protocol]) -> list[Served]:
        datagrams = partial(Datagrams, Zone(self.desk, self.options.dns_zone).answer)
        if place.opened is not None and place.opened.type == socket.SOCK_DGRAM:
            return [await listen_datagrams(place, datagrams)]
        try:
            server = await listen(place, protocol)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise OperatorError(
                f"edge.{name} can't be at {place.host}:{place.port} ({why}): choose another one"
            ) from error
        where = server.sockets[0].getsockname()
        logger.info("%s at %s", name, ":".join(map(str, where[:2])) if isinstance(where, tuple) else where)
        if name != "dns" or place.opened is not None:
            return [server]
        return [server, await listen_datagrams(place._replace(port=where[1]), datagrams)]

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_S)
            self.desk.table.sweep(now_ms(), TIDY_ROWS)
            self.desk.connections.end_quiet(now_ms())
            self.clients.sweep(asyncio.get_running_loop().time())
            for _ in range(min(REMARKS_AT_ONCE, len(self.desk.remarks))):
                logger.info("shadow: %s", self.desk.remarks.popleft())

    async def _say(self) -> None:
        while True:
            self.together.say(now_ms())
            await asyncio.sleep(SAY_S)

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(self.options.snapshot_interval_s)
            await self._save_now()

    async def _save_now(self) -> None:
        if self.follower.heard_ms and self.folder.keeps:
            await self.folder.save(self.desk.table, dict(self.follower.positions), self.follower.heard_ms)


async def end_tasks(tasks: Iterable[asyncio.Task[None]], first_s: float) -> None:
    """Cancel tasks and wait for their end: ``first_s`` for what they still have to say, then asking again each second, because
    `asyncio.wait_for` loses a cancellation that meets its result, and aiokafka some others."""
    left, wait_s = set(tasks), first_s
    for _ in range(MOST_CANCELS):
        for task in left:
            task.cancel()
        if left:
            _, left = await asyncio.wait(left, timeout=wait_s)
        wait_s = min(1.0, first_s)


def process_folder(folder: Path, number: int) -> Path:
    """The folder of a process of the edge in ``folder``: the first one's is the edge's own."""
    return folder if number == 1 else folder / f"process-{number}"


def asked_at(options: EdgeOptions) -> dict[str, str]:
    """What the options say, by protocol."""
    return {
        "policy": options.policy,
        "http": options.http,
        "milter": options.milter,
        "socketmap": options.socketmap,
        "tcp_table": options.tcp_table,
        "readsocket": options.readsocket,
        "opensmtpd": options.opensmtpd,
        "dns": options.dns,
    }


def tell_of_left_events(folder: Path, processes: int) -> None:
    """Warn of events that processes left on disk which aren't there any more."""
    for path in folder.glob("process-[0-9]*/spool"):
        number = path.parent.name.partition("-")[2]
        if number.isdecimal() and int(number) > processes and any(path.glob("*.events")):
            logger.warning("events wait in %s: they are sent when edge.processes is at least %s again", path, number)


def run_edge(settings: Settings) -> None:
    """Run an edge until it is told to stop, in this process or in several others. `OperatorError` if it can't run, or its
    folder is another's."""
    if settings.log.level != "debug":
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    options = settings.edge
    folder = StateDir(Path(options.state_dir))
    tell_of_left_events(folder.path, options.processes)
    doors = opened(asked_at(options), options.processes)
    seat = Supervisor(options.processes).run() if options.processes > 1 else ProcessSlot()
    if seat is None:
        return
    edge = Edge(settings, folder, doors, seat)
    gc.freeze()  # what was loaded stays: no collection walks it again
    gc.set_threshold(*GC_THRESHOLDS)  # HTTP clients that were cut off, and connections to Kafka that fail, leave cycles
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(edge.run())
