"""How long a partition stood still while events flowed: what a fault costs in seconds, seen from outside."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import Self

from tests.system.faults.arena import Arena

LOOK_S = 0.02


class Stalls:
    """Watches the applied offsets that workers show (every 50 ms), as long as a `with` block. Events must be flowing."""

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
        while not self._stop.wait(LOOK_S):
            now_s = time.monotonic()
            for number in range(self._arena.ground.partitions):
                with contextlib.suppress(FileNotFoundError):  # a worker that starts removes its old status
                    offset = self._arena.shown(number, "applied")
                    before, since_s = applied.get(number, (-1, now_s))
                    if offset > before:
                        self.longest_s = max(self.longest_s, now_s - since_s)
                        applied[number] = (offset, now_s)
