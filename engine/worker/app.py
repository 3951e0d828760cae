"""The Faust app: one stateful agent over the connections topic, one message per block.

The app knows nothing of the page or the alerts. The process passes it `Companion`s, which start and stop with it
(`engine.service.worker`). The first kernels are compiled, or loaded from the cache, before the app joins its group, never on
the first block.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import faust
from aiokafka.errors import IllegalStateError
from faust.auth import Credentials, OAuthCredentials, SASLCredentials, SSLCredentials
from faust.types import TP
from mode import get_logger
from yarl import URL

from engine.config.load import Settings
from engine.config.validators import split_list
from engine.decisions.override_index import KEPT_MS, OverrideIndex
from engine.detector.layout import BYTES_A_ROW, table_bytes
from engine.kafka.topic_admin import contracts_of
from engine.pipeline.precompile import precompile
from engine.worker.apply import BlockApplier
from engine.worker.assignor import Assignor
from engine.worker.override_feed import OverrideFeed
from engine.worker.partition_watch import PartitionWatch
from engine.worker.prefetch import Prefetcher
from engine.worker.publisher import Publisher
from engine.worker.reload import Reloader
from engine.worker.shards import Shards
from engine.worker.status import StatusWriter
from engine.worker.transport import Transport
from topics.contracts import CONNECTIONS, DEAD_LETTERS, DECISIONS, EXEMPTIONS

logger = get_logger(__name__)
STREAM_BUFFER_BLOCKS = 4
COMMIT_INTERVAL_S = 1.0
End = Callable[[BaseException], Coroutine[Any, Any, None]]


async def _nothing() -> None:
    """Do nothing: the default of a companion's steps."""


@dataclass(frozen=True, slots=True)
class Companion:
    """A part of the process next to the engine, such as the page."""

    start: Callable[[], Coroutine[Any, Any, None]] = _nothing  # before the group is joined
    run: Callable[[], Coroutine[Any, Any, None]] = _nothing  # after the start, until cancelled
    stop: Callable[[], Coroutine[Any, Any, None]] = _nothing  # before the last checkpoint


def no_companions(_: Tidegate) -> Sequence[Companion]:
    """Return no companions."""
    return ()


def faust_credentials(client_options: Mapping[str, Any]) -> Credentials | None:
    """Return the credentials for Faust's own consumer and producer, None for a cluster without TLS and SASL.

    Faust takes credentials of its own classes. Without them its clients speak plaintext to a secured listener.
    """
    context = client_options.get("ssl_context")
    if "sasl_oauth_token_provider" in client_options:
        return OAuthCredentials(oauth_cb=client_options["sasl_oauth_token_provider"], ssl_context=context)
    if "sasl_mechanism" in client_options:
        return SASLCredentials(
            username=client_options["sasl_plain_username"],
            password=client_options["sasl_plain_password"],
            mechanism=client_options["sasl_mechanism"],
            ssl_context=context,
        )
    return None if context is None else SSLCredentials(context)


class BlockSchema(faust.Schema[Any, Any]):
    """Keys and values as the transport delivers them, without decoding."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """Return None: blocks have no key."""
        return None

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """Return the block."""
        return message.value


class Tidegate(faust.App):
    """The engine as a Faust app under ``settings``. ``failure`` is the error that ended it, None without one.

    ``read`` returns the settings again for a reload. ``companions`` makes the companions of this app. ``end`` ends the
    worker after a failure; by default the app crashes.
    """

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        companions: Callable[[Tidegate], Sequence[Companion]] = no_companions,
        end: End | None = None,
        **options: Any,
    ) -> None:
        worker = settings.worker
        self.settings = settings
        self.client_options = settings.kafka.client_options()
        self.failure: BaseException | None = None
        self._end: End = end or self.crash
        super().__init__(
            worker.app_id,
            broker=[f"kafka://{server}" for server in split_list(settings.kafka.bootstrap)],
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
            broker_credentials=faust_credentials(self.client_options),
            **options,
        )
        prefix, index = settings.topics.prefix, OverrideIndex(kept_ms=KEPT_MS)
        self.prefetcher = Prefetcher()
        self.publisher = Publisher(prefix + DECISIONS.name, prefix + DEAD_LETTERS.name, self.client_options, self.fail)
        self.shards = Shards(settings, index, self.publisher.flushed, self.fail)
        self.applier = BlockApplier(self.shards, self.publisher, self._first_offset)
        self.overrides = OverrideFeed(prefix + EXEMPTIONS.name, self.client_options, index, self.applier.override)
        self.reloader = Reloader(settings, self.shards, self.applier, read)
        connections = next(topic for topic in contracts_of(settings) if topic.name == prefix + CONNECTIONS.name)
        self._watch = PartitionWatch(connections, self.publisher.partition_count, self.applier.report_end, self.fail)
        self._status = StatusWriter(self.applier, settings, self.end_offset)
        self._companions = companions(self)

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    async def on_first_start(self) -> None:
        """Compile the kernels. Faust's data folder is not created: the state is in the changelog."""
        precompile()
        rows = self.settings.worker.rows_per_partition
        size_mb = table_bytes(rows) / 1e6
        logger.info("a partition has %s slots x %d bytes, %.0f MB when full", f"{rows:,}", BYTES_A_ROW, size_mb)

    async def on_start(self) -> None:
        """Connect the publisher, read all overrides and start the companions, before the group is joined."""
        await super().on_start()
        await self.publisher.start()
        await self.overrides.catch_up()
        self.add_future(self.overrides.run())
        self.add_future(self.shards.run())
        self.add_future(self._status.run())
        self.add_future(self._watch.run())
        self.loop.add_signal_handler(signal.SIGHUP, lambda: self.loop.create_task(self.reloader.reload()))
        for companion in self._companions:
            await companion.start()
            self.add_future(companion.run())

    async def on_stop(self) -> None:
        """Stop the worker.

        1. Stop the companions.
        2. Make everything applied durable and commit it.
        3. Stop the stream and the consumer.
        4. Release the partitions, then stop the publisher.
        """
        for companion in self._companions:  # 1
            await companion.stop()
        await self.shards.close(self.shards.assigned())  # 2
        if self._consumer is not None:
            await self._consumer.commit()
        await super().on_stop()  # 3
        self.prefetcher.stop()
        await self.shards.stop()  # 4
        await self.publisher.stop()

    def announce(self, address: str) -> None:
        """Announce this worker's address to all workers, with its next assignment. Call it before the group is joined."""
        self.conf.canonical_url = URL(address)

    def distribution(self) -> Mapping[str, Mapping[str, Sequence[int]]]:
        """Return the partitions of the last assignment, by worker address and topic."""
        return cast(Assignor, self.assignor).external_topics_metadata()

    def end_offset(self, partition: int) -> int | None:
        """Return the end of a partition of the connections as of the last fetch, None while unknown."""
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
            self.loop.create_task(self._end(error))

    async def _first_offset(self, partition: int) -> int:
        tp = TP(self.settings.topics.prefix + CONNECTIONS.name, partition)
        return int((await self.consumer.earliest_offsets(tp))[tp])


def create_app(
    settings: Settings,
    read: Callable[[], Settings] | None = None,
    companions: Callable[[Tidegate], Sequence[Companion]] = no_companions,
    end: End | None = None,
) -> Tidegate:
    """Return the app with its agent. Arguments as of `Tidegate`; without ``read``, a reload finds no change."""
    app = Tidegate(settings, read or (lambda: settings), companions, end)
    connections = app.topic(settings.topics.prefix + CONNECTIONS.name, schema=BlockSchema())

    @app.agent(connections, name="detect")
    async def detect(blocks: Any) -> None:
        async for reading in blocks:
            try:
                events = await asyncio.wrap_future(reading)
                try:
                    await app.applier.apply(events)
                finally:
                    app.prefetcher.release(events.workspace)
            except Exception as error:  # noqa: BLE001 (Faust acknowledges a block whose exception escapes)
                app.fail(error)
                return

    return app
