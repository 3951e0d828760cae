"""The changelog's writer and reader with a cluster that is unreachable, silent or another one than before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError

from engine.detector.throttle import Policy
from engine.kafka import follow
from engine.state.encode import cut_state
from engine.state.partition import Partition
from engine.worker import changelog, replicas
from engine.worker.changelog import ChangelogReader, ChangelogWriter, Progress, Recreated, Stuck, records_of
from engine.worker.replicas import Replica
from tests.support.bench import block_of
from tests.support.fetches import at_offset, section_batch
from topics.changelog import BadState


def empty() -> Partition:
    return Partition(Policy(1.0, 0, 2, 4), 1024)


async def test_writer_is_stuck_when_its_client_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        async def __aenter__(self) -> None:
            await asyncio.Event().wait()

        async def __aexit__(self, *_: object) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(changelog, "SILENCE_S", 0.05)
    writer = ChangelogWriter("state", 2, "app", {"bootstrap_servers": "127.0.0.1:1"})
    monkeypatch.setattr(writer, "_producer", SimpleNamespace(transaction=Silent))

    with pytest.raises(Stuck, match=r"partition 2: no response to a checkpoint for 0\.05 s"):
        await writer.write(cut_state(empty(), 1))


def test_progress_text_has_size_rate_and_time_left() -> None:
    assert str(Progress(1_200_000, 180_000_000, 0.25, 2.0)) == "1,200,000 rows, 180 MB (90 MB/s), about 6 s to go"
    assert str(Progress(0, 0, 0.0, 0.0)) == "0 rows, 0 MB (0 MB/s), about 0 s to go"


def test_batch_that_cannot_be_decompressed_is_a_bad_state() -> None:
    damaged = at_offset(section_batch(b"\xff" * 30, 5, codec=4), 10)

    with pytest.raises(BadState, match="the batch at offset 10 of connections-2 can't be decompressed"):
        records_of(block_of(damaged, 10))


class Script:
    """A changelog reader whose n-th work is the n-th of ``acts``; ``positions`` are the starts of each."""

    def __init__(self, *acts: Callable[[ChangelogReader], Awaitable[None]] | Exception) -> None:
        self.acts = list(acts)
        self.positions: list[int] = []

    def __call__(self, restoration: Any, topic: str, options: dict[str, Any], position: int) -> Any:
        self.positions.append(position)
        act = self.acts.pop(0)

        async def work(*_: Any) -> None:
            if isinstance(act, Exception):
                raise act
            await act(cast(ChangelogReader, restoration))

        async def nothing() -> None:
            return None

        async def position_after() -> int:
            return 10 * len(self.positions)

        return SimpleNamespace(start=nothing, stop=nothing, position=position_after, read_to_end=work, fetch=work)


async def reads(_: Any) -> None:
    """Read without trouble."""
    await asyncio.sleep(0)


async def promoted(script: Script, monkeypatch: pytest.MonkeyPatch, position: int = -1) -> Replica:
    monkeypatch.setattr(replicas, "ChangelogReader", script)
    monkeypatch.setattr(follow, "RETRY_S", 0.0)
    replica = Replica(empty, "state", {})
    replica.position = position
    await replica.promote(lambda _: None)
    return replica


async def test_replica_waits_for_an_unreachable_cluster_and_keeps_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(KafkaConnectionError(), reads)

    replica = await promoted(script, monkeypatch, 5)

    assert (script.positions, replica.position) == ([5, 5], 20)


@pytest.mark.parametrize("error", [OffsetOutOfRangeError({}), Recreated("it ends at 3")])
async def test_replica_of_another_changelog_starts_from_nothing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(error, reads)

    replica = await promoted(script, monkeypatch, 5)

    assert (script.positions, replica.position) == ([5, -1], 20)


async def test_promotion_ends_at_a_state_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadState):
        await promoted(Script(BadState("of a later version")), monkeypatch)


async def test_standby_that_cannot_be_read_starts_over_at_its_promotion(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(BadState("of a later version"), reads)
    monkeypatch.setattr(replicas, "ChangelogReader", script)
    replica = Replica(empty, "state", {})
    replica.follow()
    await asyncio.sleep(0.01)

    await replica.promote(lambda _: None)

    assert script.positions == [-1, -1]
