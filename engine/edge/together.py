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

from engine.exposition import labelled

SAY_S, SILENT_MS = 1.0, 5_000
FILE = "figures.json"
LABEL = "process"


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
        with contextlib.suppress(OSError):
            beside.write_bytes(orjson.dumps(self._own(now_ms)))
            beside.replace(path)

    def health(self, now_ms: int) -> dict[str, Any]:
        """Everybody's; "fresh" if all are there and all are."""
        found = {number: said["health"] for number, said in self._heard(now_ms).items()}
        fresh = len(found) == len(self._folders) and all(said["fresh"] for said in found.values())
        return {"fresh": fresh, "shadow": found[str(self._number)]["shadow"], "processes": found}

    def metrics(self, now_ms: int) -> bytes:
        """Everybody's, in the text format."""
        return labelled({number: said["metrics"] for number, said in self._heard(now_ms).items()}, LABEL)

    def _own(self, now_ms: int) -> dict[str, Any]:
        return {"at_ms": now_ms, "health": self._own_health(now_ms), "metrics": self._own_metrics(now_ms).decode()}

    def _heard(self, now_ms: int) -> dict[str, dict[str, Any]]:
        heard: dict[str, dict[str, Any]] = {}
        for number, folder in enumerate(self._folders, 1):
            if number == self._number:
                heard[str(number)] = self._own(now_ms)
                continue
            with contextlib.suppress(OSError, orjson.JSONDecodeError):
                said = orjson.loads((folder / FILE).read_bytes())
                if said["at_ms"] > now_ms - SILENT_MS:
                    heard[str(number)] = said
        return heard
