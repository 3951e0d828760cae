"""The operator's errors, as the engine's modules import them; `topics.errors` declares them."""

from __future__ import annotations

from topics.errors import OperatorError

__all__ = ["OperatorError"]
