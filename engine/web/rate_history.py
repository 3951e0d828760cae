"""The last ten minutes of a worker's rates as samples, so that the page's chart is filled when it opens."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from engine.worker.apply import BlockApplier

EVERY_S = 5.0
MAX_SAMPLES = 121


class RateHistory:
    """Samples (time in ms, records and throttles since the start), oldest first."""

    def __init__(self, engine: BlockApplier) -> None:
        self.samples: deque[tuple[int, int, int]] = deque(maxlen=MAX_SAMPLES)
        self._engine = engine

    async def run(self) -> None:
        """Add a sample every `EVERY_S` until cancelled."""
        while True:
            self.samples.append(self.current())
            await asyncio.sleep(EVERY_S)

    def current(self) -> tuple[int, int, int]:
        """Return a sample taken now, without adding it."""
        flow = self._engine.flow
        return int(time.time() * 1000), flow.records, flow.throttles
