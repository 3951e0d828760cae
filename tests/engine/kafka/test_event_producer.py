"""Events that Kafka would delete immediately are refused before the first is sent."""

from __future__ import annotations

import time

import pytest

from engine.kafka.event_producer import EventProducer
from topics.errors import OperatorError

DAY_MS = 86_400_000


def producer(retention_ms: int | None) -> EventProducer:
    """Return a producer that isn't connected: every send fails."""
    return EventProducer("connections", 4, "none", {}, retention_ms)


@pytest.mark.parametrize("retention_ms", [None, -1, 3 * DAY_MS])
async def test_events_within_the_retention_are_sent(retention_ms: int | None) -> None:
    line = b'{"ts":%d,"ip":"192.0.2.7"}\n' % (int(time.time() * 1000) - 2 * DAY_MS)
    with pytest.raises(AttributeError, match="_producer"):
        await producer(retention_ms).send(line)


async def test_events_older_than_the_retention_are_refused_before_sending() -> None:
    now_ms = int(time.time() * 1000)
    lines = b"".join(b'{"ts":%d,"ip":"192.0.2.7"}\n' % (now_ms - days * DAY_MS) for days in (0, 2))
    with pytest.raises(OperatorError, match=r"topics\.retention_ms keeps 1 days"):
        await producer(DAY_MS).send(lines)
