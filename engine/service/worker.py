"""Run a worker in this process until it is told to stop: SIGINT or SIGTERM, or a failure of its own.

Graceful: the block at work is finished, a last checkpoint written, offsets committed, the group left. A failure is raised
to the caller as one exception; what an operator can mend is an `OperatorError`. A worker that has failed and can't end in time
(a client of a cluster that is away may wait for ever) is ended by force: nothing in its memory counts any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Callable

import faust
import uvloop

from engine.config.load import Settings
from engine.kafka.topic_admin import differences, ensure
from engine.pipeline.build import engines_own
from engine.worker.app import create_app
from engine.worker.changelog import Fenced, Stuck
from engine.worker.transport import Shortened
from topics.changelog import BadState
from topics.contracts import Topic, contracts
from topics.errors import OperatorError

logger = logging.getLogger(__name__)
QUIET = ("faust", "mode", "aiokafka", "engine.worker.app", "engine.worker.transport")
END_S = 30.0
MENDABLE = (BadState, Fenced, Shortened, Stuck)


def contracted(settings: Settings) -> tuple[Topic, ...]:
    """The topics of this configuration."""
    topics = settings.topics
    return contracts(topics.prefix, topics.partitions, topics.retention_ms, topics.replication)


def check_topics(settings: Settings, *, create: bool) -> None:
    """Compare the cluster's topics with their contracts, creating what is missing if ``create``; `OperatorError` for the
    first difference that would cost events, state or decisions, a line in the log for the others."""
    check = ensure if create else differences
    findings = asyncio.run(check(settings.kafka.bootstrap, contracted(settings), settings.kafka.client_options()))
    for finding in findings:
        if finding.fatal:
            raise OperatorError(finding.text)
        logger.info("%s", finding.text)


def run_worker(settings: Settings, read: Callable[[], Settings]) -> None:
    """Run until stopped. The topics must have been checked. ``read``: reads the settings again."""
    engines_own(settings, "a worker")
    if settings.log.level != "debug":
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger("asyncio").setLevel(
            logging.CRITICAL
        )  # tells again, in its way, of failures that have been told
    uvloop.install()
    app = create_app(settings, read)
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

    async def stop(error: BaseException) -> None:
        if not isinstance(error, MENDABLE):
            logger.error("the worker ends: %r", error)
        last = threading.Timer(END_S, _end_by_force, (error,))
        last.daemon = True
        last.start()
        await worker.stop()

    app.stop_soon = stop
    with contextlib.suppress(SystemExit):
        worker.execute_from_commandline()
    error = app.failure or worker.crash_reason
    if isinstance(error, MENDABLE):
        raise OperatorError(str(error)) from error
    if error is not None:
        raise error


def _end_by_force(error: BaseException) -> None:
    print(f"tidegate: {error} (ended by force, {END_S:g} s after that)", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(2)
