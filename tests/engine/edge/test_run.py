"""The edge's process ends when it is told to and never else, whoever loses a cancellation or lets one out."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from engine.edge.run import end_tasks
from engine.kafka import follow
from engine.kafka.follow import Complaints, close, lasting


async def test_a_task_that_swallows_a_cancellation_is_asked_again() -> None:
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


async def test_a_cancellation_that_is_not_ours_begins_work_anew_and_ours_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "AGAIN_S", 0.0)
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise asyncio.CancelledError
        await asyncio.sleep(60)

    task = asyncio.create_task(lasting(work))
    await asyncio.sleep(0.05)
    assert (begun, task.done()) == (3, False)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_client_that_does_not_stop_or_fails_at_it_is_left_behind() -> None:
    async def fails(error: BaseException) -> None:
        raise error

    began_s = time.monotonic()
    await close(asyncio.sleep(60), 0.05)
    for error in (OSError("x"), asyncio.CancelledError()):
        await close(fails(error), 60)
    assert time.monotonic() - began_s < 30


def test_a_complaint_is_repeated_once_a_minute_and_another_one_said_at_once(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(logging.getLogger("test"), "no: %s")
    for now_s, error in (
        (0, OSError("a")),
        (1, OSError("a")),
        (2, TimeoutError()),
        (61.9, TimeoutError()),
        (62, TimeoutError()),
    ):
        complaints.add(error, now_s)
    assert [record.message for record in caplog.records] == ["no: a", "no: TimeoutError", "no: TimeoutError"]
