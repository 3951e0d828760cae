"""The Faust app: one stateful agent over the connections topic, a block a message.

``faust -A engine.worker.app worker`` runs it with the configuration that the environment names; ``tidegate worker`` does
the same with options and clearer errors. The first kernels are compiled, or loaded from the cache, before the app joins
its group, never on the first block.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import faust
import uvloop
from aiokafka.errors import IllegalStateError
from faust.types import TP
from mode import get_logger
from yarl import URL

from engine.alerts.alert_log import Memory
from engine.alerts.notifier import Notifier
from engine.config.load import Settings, load_settings
from engine.config.validators import listed
from engine.detector.layout import BYTES_A_ROW, table_bytes
from engine.pipeline.build import composer
from engine.pipeline.precompile import warm
from engine.web.peer_client import Fleet
from engine.web.peers import Distribution
from engine.web.server import Site
from engine.web.views import Views
from engine.worker.apply import Engine
from engine.worker.assignor import Assignor
from engine.worker.override_feed import OverrideReader
from engine.worker.publisher import Publisher
from engine.worker.reload import Reloader
from engine.worker.shards import Shards
from engine.worker.status import StatusWriter
from engine.worker.transport import Transport
from topics.contracts import CONNECTIONS, DEAD_LETTERS, DECISIONS, EXEMPTIONS, NOTICES, STATE

logger = get_logger(__name__)
STREAM_BUFFER_BLOCKS = 4
COMMIT_INTERVAL_S = 1.0


class BlockSchema(faust.Schema[Any, Any]):
    """Keys and values as the transport gives them: nothing to decode."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """Blocks have no key."""
        return None

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """The block."""
        return message.value


class Tidegate(faust.App):
    """The engine as a Faust app under ``settings``. ``failure``: what ended it, None while all is well; ``stop_soon``: how
    it is to be ended then, a crash of the app unless whoever runs it says otherwise."""

    def __init__(self, settings: Settings, read: Callable[[], Settings], **options: Any) -> None:
        worker = settings.worker
        self.settings = settings
        self.client_options = settings.kafka.client_options()
        self.failure: BaseException | None = None
        self.stop_soon: Callable[[BaseException], Coroutine[Any, Any, None]] = self.crash
        super().__init__(
            worker.app_id,
            broker=[f"kafka://{server}" for server in listed(settings.kafka.bootstrap)],
            broker_session_timeout=float(worker.session_timeout_s),
            broker_heartbeat_interval=worker.session_timeout_s / 4,
            broker_commit_interval=COMMIT_INTERVAL_S,
            table_standby_replicas=worker.standby_replicas,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=worker.fetch_bytes,
            consumer_group_instance_id=worker.instance_id or None,
            stream_buffer_maxsize=STREAM_BUFFER_BLOCKS,
            stream_wait_empty=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            web_enabled=False,
            autodiscover=False,
            PartitionAssignor=Assignor,
            **options,
        )
        prefix = settings.topics.prefix
        self.publisher = Publisher(prefix + DECISIONS.name, prefix + DEAD_LETTERS.name, self.client_options, self.fail)
        topics = (prefix + CONNECTIONS.name, prefix + STATE.name)
        self.shards = Shards(settings, topics, self.publisher.settled, self.fail)
        exemptions = prefix + EXEMPTIONS.name
        self.engine = Engine(self.shards, self.publisher, composer(settings), self._first_offset, exemptions)
        self.status = StatusWriter(self.engine, settings, self.end_offset)
        self.reloader = Reloader(settings, self.engine, read)
        self.fleet = Fleet(settings, self._distribution)
        self.views = Views(self.reloader, self.engine, self.end_offset, self.fleet)
        self.overrides = OverrideReader(exemptions, self.client_options, self.engine, self.views.board.hear)
        self.site = Site(self.views, settings)
        memory = Memory(prefix + NOTICES.name, self.client_options)
        self.notifier = Notifier(settings.notify, self.fleet.own.name, memory, self.views.look)
        self.views.outcomes = self.notifier.outcomes

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    async def on_first_start(self) -> None:
        """Faust's data folder is not made: the state lives in the changelog."""
        warm()
        rows = self.settings.worker.rows_per_partition
        size_mb = table_bytes(rows) / 1e6
        logger.info("a partition has %s slots x %d bytes, %.0f MB when full", f"{rows:,}", BYTES_A_ROW, size_mb)

    async def on_start(self) -> None:
        """Connect the publisher, know all overrides and have a page, before the group is joined and the first block comes."""
        await super().on_start()
        await self.publisher.start()
        await self.overrides.catch_up()
        self.add_future(self.overrides.run())
        self.add_future(self.shards.run())
        self.add_future(self.status.run())
        self.loop.add_signal_handler(signal.SIGHUP, lambda: self.loop.create_task(self.reloader.reload()))
        if self.settings.worker.http or self.notifier.needed:
            self.add_future(self.views.board.run())
        if self.notifier.needed:
            self.add_future(self.notifier.run())
        if self.settings.worker.http:
            self.add_future(self.views.pulse.run())
            await self.site.start()
        self.conf.canonical_url = URL(self.fleet.announce(self.site.listening))

    async def on_stop(self) -> None:
        """Make everything applied durable and commit it, stop the stream, then what it publishes with."""
        await self.site.stop()
        await self.fleet.stop()
        await self.shards.close(self.shards.assigned())
        if self._consumer is not None:
            await self._consumer.commit()
        await super().on_stop()
        await self.shards.stop()
        await self.publisher.stop()

    def _distribution(self) -> Distribution:
        """Who has which partitions, as the last assignment has told it."""
        found: Distribution = cast(Assignor, self.assignor).external_topics_metadata()
        return found

    async def _first_offset(self, partition: int) -> int:
        tp = TP(self.settings.topics.prefix + CONNECTIONS.name, partition)
        return int((await self.consumer.earliest_offsets(tp))[tp])

    def end_offset(self, partition: int) -> int | None:
        """Where the connections of a partition end, as the last fetch has told; None if it isn't known."""
        if self._consumer is not None:
            with contextlib.suppress(IllegalStateError):
                end: int | None = self._consumer.highwater(
                    TP(self.settings.topics.prefix + CONNECTIONS.name, partition)
                )
                return end
        return None

    def fail(self, error: BaseException) -> None:
        """End the worker because of ``error``; the first one is kept."""
        if self.failure is None:
            self.failure = error
            self.loop.create_task(self.stop_soon(error))


def create_app(settings: Settings, read: Callable[[], Settings] | None = None) -> Tidegate:
    """The app with its agent. ``read``: reads the settings again, when it is told to; without, they are what they are."""
    app = Tidegate(settings, read or (lambda: settings))
    connections = app.topic(settings.topics.prefix + CONNECTIONS.name, schema=BlockSchema())

    @app.agent(connections, name="detect")
    async def detect(blocks: Any) -> None:
        async for reading in blocks:
            try:
                await app.engine.take(await asyncio.wrap_future(reading))
            except Exception as error:  # noqa: BLE001 (an exception that escaped would count as done: Faust acks it)
                app.fail(error)
                return

    return app


def __getattr__(name: str) -> Any:
    """``app``, made when it is first asked for: what ``faust -A engine.worker.app`` looks up."""
    if name != "app":
        raise AttributeError(name)
    chosen = os.environ.get("TIDEGATE_CONFIG")
    uvloop.install()

    def read() -> Settings:
        return load_settings(Path(chosen) if chosen else None, os.environ, {})

    app = create_app(read(), read)
    globals()["app"] = app
    return app
