"""Health and metrics of all processes of one edge over HTTP, whichever process is asked.

Each process publishes its figures in its folder every `PUBLISH_INTERVAL_S`. The process that is asked adds its own, current
ones. Figures older than `SILENT_MS` are left out: that process hangs, or has ended and isn't restarted yet. The label
``process`` tells the metrics apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from engine.edge.state_dir import write_atomically
from engine.metrics.exposition import add_label

PUBLISH_INTERVAL_S, SILENT_MS = 1.0, 5_000
FILE = "figures.json"
LABEL = "process"
HEALTH, METRICS = "health", "metrics"


class ProcessAggregate:
    """The figures of all processes, given their folders in order of process numbers, which start at 1."""

    def __init__(
        self,
        folders: Sequence[Path],
        number: int,
        health: Callable[[int], dict[str, Any]],
        metrics: Callable[[int], bytes],
    ) -> None:
        """Aggregate for process `number`, whose own figures are `health` and `metrics` at a Unix time in ms."""
        self._folders, self._number = folders, number
        self._own_health, self._own_metrics = health, metrics

    def publish(self, now_ms: int) -> None:
        """Write this process's figures for the others. If the write fails, the others leave this process out."""
        own = {"at_ms": now_ms, HEALTH: self._own_health(now_ms), METRICS: self._own_metrics(now_ms).decode()}
        with contextlib.suppress(OSError):
            write_atomically(self._folders[self._number - 1] / FILE, orjson.dumps(own), durable=False)

    def health(self, now_ms: int) -> dict[str, Any]:
        """Return the health of all processes; "fresh" if none is missing and each one is fresh."""
        own = self._own_health(now_ms)
        by_process = self._with_others(HEALTH, own, now_ms)
        fresh = len(by_process) == len(self._folders) and all(health["fresh"] for health in by_process.values())
        return {"fresh": fresh, "shadow": own["shadow"], "processes": by_process}

    def metrics(self, now_ms: int) -> bytes:
        """Return the metrics of all processes in the text format."""
        return add_label(self._with_others(METRICS, self._own_metrics(now_ms).decode(), now_ms), LABEL)

    def _with_others(self, key: str, own: Any, now_ms: int) -> dict[str, Any]:
        """Return `own` and the other processes' published values of `key`, by process number in ascending order."""
        by_process: dict[str, Any] = {}
        for number, folder in enumerate(self._folders, 1):
            if number == self._number:
                by_process[str(number)] = own
                continue
            with contextlib.suppress(OSError, orjson.JSONDecodeError):
                published = orjson.loads((folder / FILE).read_bytes())
                if published["at_ms"] > now_ms - SILENT_MS:
                    by_process[str(number)] = published[key]
        return by_process
