"""What the worker's pages say, made of the engine as it stands between two blocks."""

from __future__ import annotations

from typing import Any

from engine.exposition import Histogram
from engine.stream.engine import Engine
from engine.stream.status import EndOffset, status_of
from engine.web.complaints import complaints_of


class Views:
    """One worker, as its pages see it."""

    def __init__(self, engine: Engine, end_offset: EndOffset) -> None:
        self._engine, self._end_offset = engine, end_offset

    @property
    def latency(self) -> Histogram:
        """Of decisions."""
        return self._engine.flow.latency

    def status(self) -> dict[str, Any]:
        """As `engine.stream.status` makes it."""
        return status_of(self._engine, self._end_offset)

    def complaints(self) -> list[str]:
        """What is not well, a sentence each."""
        return complaints_of(self.status())
