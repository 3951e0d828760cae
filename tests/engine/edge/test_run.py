"""The edge's shutdown ends its tasks, even those that lose a cancellation."""

from __future__ import annotations

import asyncio

from engine.edge.run import end_tasks


async def test_task_that_swallows_cancellations_is_cancelled_again() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(60)

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(asyncio.sleep(60))]
    await asyncio.sleep(0)

    await asyncio.wait_for(end_tasks(tasks, 0.05), 5)

    assert swallowed == 2
    assert all(task.cancelled() for task in tasks)
