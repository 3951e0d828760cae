"""The edge as a process: startup, main loop until SIGINT, SIGTERM or SIGHUP, and a shutdown of bounded duration.

Startup listens without waiting for Kafka: until the decisions are read, the answer is no opinion. Shutdown accepts no further
clients, turns the open connections into events, and leaves on disk the events that Kafka doesn't take within `SHUTDOWN_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from engine.config.edge_options import EdgeOptions
from engine.config.load import Settings
from engine.config.validators import ListenAddress, split_list
from engine.edge.aggregate import PUBLISH_INTERVAL_S, ProcessAggregate
from engine.edge.connections import ConnectionTracker
from engine.edge.decision_feed import DecisionFeed, FeedOptions
from engine.edge.delivery import Delivery, DeliveryOptions
from engine.edge.listeners import Listeners, listen_options
from engine.edge.metrics import EdgeParts, health, prometheus
from engine.edge.prefork import STOP_SIGNALS, ProcessSlot, Supervisor
from engine.edge.protocols.http import HttpApi
from engine.edge.reply import ReplyText
from engine.edge.servers import ClientLimits, Clients, bind_addresses, notify_ready, now_ms
from engine.edge.service import EdgeService
from engine.edge.shadow import EdgeShadow
from engine.edge.spool import Spool
from engine.edge.state_dir import StateDir
from engine.edge.table import DecisionTable

logger = logging.getLogger(__name__)
SHUTDOWN_S = 5.0
MAX_CANCELS = 5
GC_THRESHOLDS = 2_000, 5, 5
MAINTENANCE_S = 0.1
SWEEP_ROWS = 2_000
MAX_SHADOW_LINES = 20  # logged per maintenance


class EdgeServer:
    """One edge, or one process of an edge of several."""

    def __init__(
        self,
        options: EdgeOptions,
        parts: EdgeParts,
        slot: ProcessSlot,
        addresses: Mapping[str, list[ListenAddress]],
    ) -> None:
        self._options, self._parts, self._slot, self._addresses = options, parts, slot, addresses
        own_health, own_metrics = partial(health, parts), partial(prometheus, parts)
        folders = [parts.state_dir.process_path(number) for number in range(1, slot.processes + 1)]
        self._aggregate = ProcessAggregate(folders, slot.number, own_health, own_metrics)
        if slot.processes > 1:
            api = HttpApi(parts.service, self._aggregate.health, self._aggregate.metrics)
        else:
            api = HttpApi(parts.service, own_health, own_metrics)
        self._listeners = Listeners(options, parts.service, parts.clients, api)
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Serve until a stop signal arrives or the supervisor dies. Raises the error of a background task that fails."""
        await self.startup()
        try:
            await self.main_loop()
        finally:
            await self.shutdown()

    async def startup(self) -> None:
        """Handle stop signals, listen, report readiness, start the background tasks."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._stopping.set)
        if self._slot.supervisor_fd >= 0:
            loop.add_reader(self._slot.supervisor_fd, self._on_supervisor_exit)
        await self._listeners.open(self._addresses)
        notify_ready()
        self._tasks = [asyncio.create_task(work) for work in self._background_work()]

    async def main_loop(self) -> None:
        """Wait until the server is stopped or a background task ends."""
        stopped = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait([stopped, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            task.result()

    async def shutdown(self) -> None:
        """Close the listeners, deliver what Kafka takes within `SHUTDOWN_S`, save the snapshot, end the tasks."""
        self._listeners.close()
        self._parts.service.connections.end_all()
        if self._options.events == "on":
            await self._parts.delivery.flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._parts.delivery.drain(), SHUTDOWN_S)
        await self._save_snapshot()
        await end_tasks(self._tasks, SHUTDOWN_S)

    def _background_work(self) -> list[Coroutine[Any, Any, None]]:
        feed, delivery = self._parts.feed, self._parts.delivery
        work = [feed.run(), delivery.send_heartbeats(), self._maintain()]
        if self._parts.state_dir.saves_snapshot:
            work.append(self._save_snapshots())
        if self._slot.processes > 1:
            work.append(self._publish_figures())
        if self._options.events == "on":
            work += [delivery.flush_periodically(), delivery.send_spool()]
        return work

    def _on_supervisor_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._slot.supervisor_fd)
        self._stopping.set()

    async def _maintain(self) -> None:
        """Free expired rows, end quiet connections, cut off slow clients, log shadow deferrals."""
        service, clients = self._parts.service, self._parts.clients
        while True:
            await asyncio.sleep(MAINTENANCE_S)
            service.table.sweep(now_ms(), SWEEP_ROWS)
            service.connections.end_quiet(now_ms())
            clients.sweep(asyncio.get_running_loop().time())
            for _ in range(min(MAX_SHADOW_LINES, len(service.shadow_log))):
                logger.info("shadow: %s", service.shadow_log.popleft())

    async def _publish_figures(self) -> None:
        while True:
            self._aggregate.publish(now_ms())
            await asyncio.sleep(PUBLISH_INTERVAL_S)

    async def _save_snapshots(self) -> None:
        while True:
            await asyncio.sleep(self._options.snapshot_interval_s)
            await self._save_snapshot()

    async def _save_snapshot(self) -> None:
        feed, state_dir = self._parts.feed, self._parts.state_dir
        if feed.caught_up_ms and state_dir.saves_snapshot:
            await state_dir.save(self._parts.service.table, feed.positions, feed.caught_up_ms)


async def end_tasks(tasks: Iterable[asyncio.Task[None]], first_s: float) -> None:
    """Cancel tasks and wait for their end: `first_s` for their cleanup, then cancel again every second, `MAX_CANCELS` times.

    One cancellation isn't enough: `asyncio.wait_for` loses one that coincides with its result, and aiokafka loses some.
    """
    left, wait_s = set(tasks), first_s
    for _ in range(MAX_CANCELS):
        for task in left:
            task.cancel()
        if left:
            _, left = await asyncio.wait(left, timeout=wait_s)
        wait_s = min(1.0, first_s)


def build_parts(settings: Settings, state_dir: StateDir, slot: ProcessSlot) -> EdgeParts:
    """Return the parts of one process, with the decisions of the snapshot if it is fresh enough."""
    options, prefix, client_options = settings.edge, settings.topics.prefix, settings.kafka.client_options()
    stale_after_ms = options.stale_after_s * 1000
    if slot.number > 1:
        state_dir.leave_snapshot()
    table = DecisionTable(options.max_decisions)
    service = _build_service(options, table)
    feed = DecisionFeed(
        table, FeedOptions(prefix, stale_after_ms, options.heartbeat_ms, client_options, slot.processes)
    )
    header = state_dir.load(table, now_ms() - stale_after_ms)
    if header is not None:
        feed.resume(header.positions, header.caught_up_ms)
    clients = Clients(ClientLimits(options.max_connections, options.request_timeout_ms / 1000, options.idle_timeout_s))
    spool = Spool(state_dir.process_path(slot.number) / "spool", options.spool_mb << 20)
    mta = options.name or socket.gethostname()
    name = mta if slot.number == 1 else f"{mta}/{slot.number}"
    intervals_s = options.batch_ms / 1000, options.heartbeat_ms / 1000
    delivery = Delivery(service.connections, spool, DeliveryOptions(name, mta, prefix, *intervals_s, client_options))
    return EdgeParts(service, feed, clients, spool, delivery, state_dir)


def _build_service(options: EdgeOptions, table: DecisionTable) -> EdgeService:
    shadow = EdgeShadow(
        everything=options.mode == "shadow",
        reasons=split_list(options.shadow_reasons),
        networks=split_list(options.shadow_networks),
    )
    connections = ConnectionTracker(options.quiet_ms, reported=options.events == "on")
    return EdgeService(table, connections, ReplyText(options.reply_text), shadow)


def warn_of_left_events(folder: Path, processes: int) -> None:
    """Warn of events on disk that belong to processes beyond `processes`."""
    for path in folder.glob("process-[0-9]*/spool"):
        number = path.parent.name.partition("-")[2]
        if number.isdecimal() and int(number) > processes and any(path.glob("*.events")):
            logger.warning("events wait in %s: they are sent when edge.processes is at least %s again", path, number)


def run_edge(settings: Settings) -> None:
    """Run an edge until it is stopped, in this process or in several others.

    Raises `OperatorError` if it cannot run or another edge uses its folder.
    """
    if settings.log.level != "debug":
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if warning := settings.kafka.warning():
        logger.warning("%s", warning)
    options = settings.edge
    state_dir = StateDir(Path(options.state_dir))
    warn_of_left_events(state_dir.path, options.processes)
    addresses = bind_addresses(listen_options(options), options.processes)
    slot = Supervisor(options.processes).run() if options.processes > 1 else ProcessSlot()
    if slot is None:
        return
    server = EdgeServer(options, build_parts(settings, state_dir, slot), slot, addresses)
    gc.freeze()  # objects loaded so far stay: no collection traverses them again
    gc.set_threshold(*GC_THRESHOLDS)  # HTTP clients that were cut off, and failed connections to Kafka, leave cycles
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.run())
