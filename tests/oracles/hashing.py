"""The hash that chooses the engine's slots, by its definition."""

from __future__ import annotations

WORD = 1 << 64


def splitmix(key: int, seed: int) -> int:
    """Return splitmix64's finaliser of key XOR seed (Steele, Lea, Flood 2014)."""
    x = key ^ seed
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)
