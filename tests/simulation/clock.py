"""An event loop whose time passes only by waiting: a run of minutes takes milliseconds, and is the same every time.

Callbacks keep asyncio's order; what may happen in another order in real life differs here by how long it waits, which
the seed decides. What asyncio would give to a thread runs at once. Each task belongs to the worker in whose context it
was made (`OWNER`), so that a worker can be killed with all of its tasks.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

OWNER: ContextVar[set[asyncio.Task[Any]] | None] = ContextVar("OWNER", default=None)


class Stalled(Exception):
    """Nothing can happen any more, or far too much time has passed."""


class Instant(selectors.SelectSelector):
    """Has no files to wait for: waiting moves the clock."""

    def __init__(self, most_s: float) -> None:
        super().__init__()
        self.now_s = 0.0
        self.most_s = most_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let ``timeout`` pass."""
        if timeout is None:
            raise Stalled(f"nothing is left to wait for at {self.now_s:.3f} s")
        if self.now_s > self.most_s:
            raise Stalled(f"not done after {self.now_s:.0f} s")
        self.now_s += max(timeout, 0.0)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """``most_s``: the simulated time after which a run counts as stuck."""

    def __init__(self, most_s: float) -> None:
        self._instant = Instant(most_s)
        super().__init__(self._instant)
        self._clock_resolution = 1e-6
        self.set_task_factory(_owned_task)
        self.set_exception_handler(lambda _loop, _context: None)  # a killed worker's tasks have nobody to tell

    def time(self) -> float:
        """Simulated seconds since the start."""
        return self._instant.now_s

    def run_in_executor(  # type: ignore[override]  # (asyncio's has a type for each argument)
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run it at once."""
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


def simulate(main: Coroutine[Any, Any, Any], most_s: float) -> Any:
    """Run ``main`` on a loop of its own."""
    loop = SimulatedLoop(most_s)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop._instant.most_s = float("inf")
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
