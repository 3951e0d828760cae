"""How a figure is told: beside the bound that it should keep, or with the spread of several runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Target(NamedTuple):
    """A figure and the bound that it should keep: at least, or at most."""

    what: str
    figure: float
    bound: float
    at_least: bool

    @property
    def kept(self) -> bool:
        """Whether it does."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    def text(self) -> str:
        """One line."""
        return f"{self.what}: {self.figure:.4g}, wanted {'at least' if self.at_least else 'at most'} {self.bound:g}"


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> str:
    """Median, and least to most: ``2.10 (2.05–2.14)``."""
    middle, low, high = (value / scale for value in (statistics.median(values), min(values), max(values)))
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"
