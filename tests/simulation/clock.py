"""An event loop whose time passes only by waiting: a run of minutes takes milliseconds, and repeats exactly.

Callbacks keep asyncio's order. Events that may come in another order in production differ here by their delays, which the
seed decides. Work for a thread runs immediately. Each task belongs to the worker in whose context it was created (`OWNER`),
so a worker can be killed with all of its tasks.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

OWNER: ContextVar[set[asyncio.Task[Any]] | None] = ContextVar("OWNER", default=None)


class Stalled(Exception):
    """Nothing can happen any more, or far too much simulated time has passed."""


class Instant(selectors.SelectSelector):
    """A selector without files: waiting moves the clock."""

    def __init__(self, max_s: float) -> None:
        super().__init__()
        self.now_s = 0.0
        self.max_s = max_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let ``timeout`` pass."""
        if timeout is None:
            raise Stalled(f"nothing is left to wait for at {self.now_s:.3f} s")
        if self.now_s > self.max_s:
            raise Stalled(f"not finished after {self.now_s:.0f} s")
        self.now_s += max(timeout, 0.0)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """A loop that is stuck after ``max_s`` of simulated time."""

    def __init__(self, max_s: float) -> None:
        self._instant = Instant(max_s)
        super().__init__(self._instant)
        self._clock_resolution = 1e-6
        self.set_task_factory(_owned_task)
        self.set_exception_handler(
            lambda _loop, _context: None
        )  # nothing handles the errors of a killed worker's tasks

    def time(self) -> float:
        """Return the simulated seconds since the start."""
        return self._instant.now_s

    def run_in_executor(  # type: ignore[override]  # (asyncio's has a type for each argument)
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run ``func`` immediately."""
        future = self.create_future()
        future.set_result(func(*args))
        return future


def _owned_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Future[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
    context = options.get("context")
    owned = OWNER.get() if context is None else context.get(OWNER)
    if owned is not None:
        owned.add(task)
        task.add_done_callback(owned.discard)
    return task


def simulate(main: Coroutine[Any, Any, Any], max_s: float) -> Any:
    """Run ``main`` on a loop of its own."""
    loop = SimulatedLoop(max_s)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop._instant.max_s = float("inf")
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
