"""Run a worker in this process: the engine's app with its page and alerts as companions.

`tidegate worker` calls `run_worker`; ``faust -A engine.service.worker worker`` runs the same app, configured by the
environment. SIGINT or SIGTERM stop it gracefully: the block at work is finished, a last checkpoint is written, offsets are
committed, and the group is left. A failure is raised as one exception, as an `OperatorError` if an operator can correct it.

Limit: a worker that has failed ends by force after `END_S`, since a client of an unreachable cluster may wait without a bound.
Its memory is disposable.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faust
import uvloop

from engine.alerts.alert_log import AlertLog
from engine.alerts.notifier import Notifier
from engine.config.load import Settings, load_settings
from engine.pipeline.build import require_peak_memory
from engine.web.peer_client import PeerClient
from engine.web.server import PageServer
from engine.web.views import Views
from engine.worker.app import Companion, Tidegate, create_app
from engine.worker.changelog import Fenced, Stuck
from engine.worker.partition_watch import Repartitioned
from engine.worker.transport import Shortened
from topics.changelog import BadState
from topics.contracts import NOTICES
from topics.errors import OperatorError

logger = logging.getLogger(__name__)
QUIET = ("faust", "mode", "aiokafka", "engine.worker.app", "engine.worker.transport")
END_S = 30.0
CORRECTABLE = (BadState, Fenced, Repartitioned, Shortened, Stuck)  # by an operator


def companions_of(app: Tidegate) -> Sequence[Companion]:
    """Return the page and the alerts of a worker, as far as they are configured."""
    settings = app.settings
    peers = PeerClient(settings, app.distribution)
    views = Views(app.reloader, app.applier, app.end_offset, peers)
    alert_log = AlertLog(settings.topics.prefix + NOTICES.name, app.client_options)
    notifier = Notifier(settings.notify, peers.own.name, alert_log, views.evaluate_conditions)
    page = PageServer(views, settings, notifier.outcomes)
    app.overrides.subscribe(views.decision_log.apply_override)

    async def start_page() -> None:
        if settings.worker.http:
            await page.start()
        app.announce(peers.announce(page.listening))

    companions = [Companion(start=start_page, stop=page.stop), Companion(stop=peers.stop)]
    if settings.worker.http or notifier.needed:
        companions.append(Companion(run=views.decision_log.run))
    if settings.worker.http:
        companions.append(Companion(run=views.rate_history.run))
    if notifier.needed:
        companions.append(Companion(run=notifier.run))
    return companions


def run_worker(settings: Settings, read: Callable[[], Settings]) -> None:
    """Run until stopped. The topics must have been checked. ``read`` returns the settings again, for a reload."""
    require_peak_memory(settings, "a worker")
    if warning := settings.kafka.warning():
        logger.warning("%s", warning)
    if settings.log.level != "debug":
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it repeats failures that were logged
    uvloop.install()

    async def stop(error: BaseException) -> None:
        if not isinstance(error, CORRECTABLE):
            logger.error("the worker ends: %r", error)
        last = threading.Timer(END_S, _end_by_force, (error,))
        last.daemon = True
        last.start()
        await worker.stop()

    app = create_app(settings, read, companions_of, stop)
    asyncio.set_event_loop(asyncio.new_event_loop())
    worker = faust.Worker(
        app,
        quiet=True,
        override_logging=False,
        redirect_stdouts=False,
        stderr=io.StringIO(),
        loop=asyncio.get_event_loop(),
    )
    worker.spinner = None
    with contextlib.suppress(SystemExit):
        worker.execute_from_commandline()
    error = app.failure or worker.crash_reason
    if isinstance(error, CORRECTABLE):
        raise OperatorError(str(error)) from error
    if error is not None:
        raise error


def _end_by_force(error: BaseException) -> None:
    print(f"tidegate: {error} (ended by force, {END_S:g} s after that)", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(2)


def __getattr__(name: str) -> Any:
    """Return ``app``, created on first access: the attribute that ``faust -A engine.service.worker`` looks up."""
    if name != "app":
        raise AttributeError(name)
    chosen = os.environ.get("TIDEGATE_CONFIG")
    uvloop.install()

    def read() -> Settings:
        return load_settings(Path(chosen) if chosen else None, os.environ, {})

    app = create_app(read(), read, companions_of)
    globals()["app"] = app
    return app
