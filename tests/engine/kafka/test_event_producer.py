"""Events that Kafka would drop at once are refused before any of them is sent."""

from __future__ import annotations

import time

import pytest

from engine.kafka.event_producer import EventProducer
from topics.errors import OperatorError

DAY_MS = 86_400_000


def producer(kept_ms: int | None) -> EventProducer:
    """One that isn't connected: whatever it sends fails."""
    return EventProducer("connections", 4, "none", {}, kept_ms)


@pytest.mark.parametrize("kept_ms", [None, -1, 3 * DAY_MS])
async def test_what_is_kept_is_sent(kept_ms: int | None) -> None:
    line = b'{"ts":%d,"ip":"192.0.2.7"}\n' % (int(time.time() * 1000) - 2 * DAY_MS)
    with pytest.raises(AttributeError, match="_producer"):
        await producer(kept_ms).send(line)


async def test_history_that_kafka_would_drop_is_refused_before_it_is_sent() -> None:
    now_ms = int(time.time() * 1000)
    lines = b"".join(b'{"ts":%d,"ip":"192.0.2.7"}\n' % (now_ms - days * DAY_MS) for days in (0, 2))
    with pytest.raises(OperatorError, match=r"topics\.retention_ms keeps 1 days"):
        await producer(DAY_MS).send(lines)
