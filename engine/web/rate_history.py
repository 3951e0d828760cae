"""The last ten minutes of a worker as a row of samples, so that the page's first picture has a past."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from engine.worker.apply import Engine

EVERY_S = 5.0
MOST = 121


class Pulse:
    """``samples``: time in ms, records and throttles since the start, oldest first."""

    def __init__(self, engine: Engine) -> None:
        self.samples: deque[tuple[int, int, int]] = deque(maxlen=MOST)
        self._engine = engine

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.samples.append(self.now())
            await asyncio.sleep(EVERY_S)

    def now(self) -> tuple[int, int, int]:
        """One sample."""
        flow = self._engine.flow
        return int(time.time() * 1000), flow.records, flow.throttles
