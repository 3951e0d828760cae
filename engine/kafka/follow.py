"""Living with Kafka clients that neither end nor fail well: aiokafka's ``stop`` waits for what is away, and it lets the
cancellation of its own tasks out, which would end whoever called it, and the edge with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)
AGAIN_S = 1.0
SAY_AGAIN_S = 60.0


class Complaints:
    """Warnings of something that goes wrong again and again: another reason at once, the same one once a minute.
    ``text``: with a place for the reason."""

    def __init__(self, to: logging.Logger, text: str) -> None:
        self._to, self._text = to, text
        self._reason, self._again_s = "", 0.0

    def add(self, error: BaseException, now_s: float) -> None:
        """It has gone wrong, at a time of any clock."""
        reason = str(error) or type(error).__name__
        if reason != self._reason or now_s >= self._again_s:
            self._to.warning(self._text, reason)
            self._reason, self._again_s = reason, now_s + SAY_AGAIN_S


async def close(stopping: Coroutine[Any, Any, None], within_s: float) -> None:
    """Run a client's ``stop``, for so long at most, whatever comes of it."""
    task = asyncio.create_task(stopping)
    await asyncio.wait([task], timeout=within_s)
    if not task.done():
        task.cancel()
    elif not task.cancelled():
        task.exception()


async def lasting(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do work that has no end until this task itself is cancelled; a cancellation that isn't ours begins it anew."""
    while True:
        try:
            await work()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            logger.warning("a Kafka client was cancelled by itself, beginning anew")
            await asyncio.sleep(AGAIN_S)
