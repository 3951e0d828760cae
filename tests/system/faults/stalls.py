"""The longest time that a partition made no progress while events flowed: the cost of a fault in seconds, seen from outside."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import Self

from tests.system.faults.arena import Arena

CHECK_S = 0.02


class Stalls:
    """A context that watches the applied offsets in the workers' status (every 50 ms). Events must flow meanwhile."""

    def __init__(self, arena: Arena) -> None:
        self.longest_s = 0.0
        self._arena = arena
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        applied: dict[int, tuple[int, float]] = {}
        while not self._stop.wait(CHECK_S):
            now_s = time.monotonic()
            for number in range(self._arena.ground.partitions):
                with contextlib.suppress(FileNotFoundError):  # a starting worker removes its old status
                    offset = self._arena.shown(number, "applied")
                    before, since_s = applied.get(number, (-1, now_s))
                    if offset > before:
                        self.longest_s = max(self.longest_s, now_s - since_s)
                        applied[number] = (offset, now_s)
