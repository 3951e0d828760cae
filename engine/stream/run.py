"""Run a worker in this process until it is told to stop: SIGINT or SIGTERM, or a failure of its own.

Graceful: the block at work is finished, a last checkpoint written, offsets committed, the group left. A failure is raised
to the caller as one exception; what an operator can mend is an `OperatorError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging

import faust
import uvloop

from engine.config import Settings
from engine.errors import OperatorError
from engine.stream.app import create_app
from engine.stream.changelog import Fenced
from topics.admin import differences, ensure
from topics.changelog import BadState
from topics.contracts import Topic, contracts

logger = logging.getLogger(__name__)
QUIET = ("faust", "mode", "aiokafka", "asyncio", "engine.stream.app", "engine.stream.transport")


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


def run_worker(settings: Settings) -> None:
    """Run until stopped. The topics must have been checked."""
    if settings.log.level != "debug":
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.ERROR)
    uvloop.install()
    app = create_app(settings)
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

    async def stop(_: BaseException) -> None:
        await worker.stop()

    app.stop_soon = stop
    with contextlib.suppress(SystemExit):
        worker.execute_from_commandline()
    error = app.failure or worker.crash_reason
    if isinstance(error, Fenced | BadState):
        raise OperatorError(str(error)) from error
    if error is not None:
        raise error
