"""What the processes of one edge say together over HTTP, whichever of them is asked.

Each leaves its figures in its folder once a second; who is asked adds its own, as they are now. What is older than `SILENT_MS`
is left out: that process hangs, or is gone and not back yet. Metrics keep apart who counted what, by the label ``process``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from engine.metrics.exposition import labelled

SAY_S, SILENT_MS = 1.0, 5_000
FILE = "figures.json"
LABEL = "process"
HEALTH, METRICS = "health", "metrics"


class Together:
    """``folders``: of all processes in order of their numbers, ``number``: this one's, from 1; ``health`` and ``metrics``: this
    process's own, at a time."""

    def __init__(
        self,
        folders: Sequence[Path],
        number: int,
        health: Callable[[int], dict[str, Any]],
        metrics: Callable[[int], bytes],
    ) -> None:
        self._folders, self._number = folders, number
        self._own_health, self._own_metrics = health, metrics

    def say(self, now_ms: int) -> None:
        """Leave this process's figures for the others. A disk that takes none makes it silent, and nothing else."""
        path = self._folders[self._number - 1] / FILE
        beside = path.with_suffix(".new")
        own = {"at_ms": now_ms, HEALTH: self._own_health(now_ms), METRICS: self._own_metrics(now_ms).decode()}
        with contextlib.suppress(OSError):
            beside.write_bytes(orjson.dumps(own))
            beside.replace(path)

    def health(self, now_ms: int) -> dict[str, Any]:
        """Everybody's; "fresh" if all are there and all are."""
        own = self._own_health(now_ms)
        found = self._with_others(HEALTH, own, now_ms)
        fresh = len(found) == len(self._folders) and all(said["fresh"] for said in found.values())
        return {"fresh": fresh, "shadow": own["shadow"], "processes": found}

    def metrics(self, now_ms: int) -> bytes:
        """Everybody's, in the text format."""
        return labelled(self._with_others(METRICS, self._own_metrics(now_ms).decode(), now_ms), LABEL)

    def _with_others(self, what: str, own: Any, now_ms: int) -> dict[str, Any]:
        """One of the figures by process, in order of their numbers: this one's as given, the others' as they left it."""
        heard: dict[str, Any] = {}
        for number, folder in enumerate(self._folders, 1):
            if number == self._number:
                heard[str(number)] = own
                continue
            with contextlib.suppress(OSError, orjson.JSONDecodeError):
                said = orjson.loads((folder / FILE).read_bytes())
                if said["at_ms"] > now_ms - SILENT_MS:
                    heard[str(number)] = said[what]
        return heard
