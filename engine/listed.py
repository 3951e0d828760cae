"""Options that hold several things with commas between them."""

from __future__ import annotations


def listed(text: str) -> list[str]:
    """What stands between commas, without the space around it; what is empty is left out."""
    return [part for part in map(str.strip, text.split(",")) if part]
