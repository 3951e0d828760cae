"""Longest-prefix match: one dict of networks per prefix length, searched from the longest length to the shortest.

A look-up costs one dict access per prefix length in use: a handful in practice, 160 at worst. A trie was rejected,
because in Python each of its nodes costs as much as a whole dict access.
"""

from __future__ import annotations

from topics.networks import IPV4_BITS, IPV6_BITS, Network


class PrefixMap:
    """A map from networks to non-negative numbers (slots, or times in ms)."""

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], dict[int, int]] = {}
        # By address width in bits: pairs of shift and dict, the longest prefix first. Look-ups iterate over it in place,
        # because a call would cost as much as a dict access and a generator twice that.
        self.lengths: dict[int, tuple[tuple[int, dict[int, int]], ...]] = {IPV4_BITS: (), IPV6_BITS: ()}

    def get(self, network: Network) -> int:
        """Return the number of exactly this network, -1 if it is absent."""
        numbers = self._by_length.get((network.bits, network.length))
        return -1 if numbers is None else numbers.get(network.number >> network.bits - network.length, -1)

    def put(self, network: Network, number: int) -> None:
        """Add a network or replace its number."""
        numbers = self._by_length.get((network.bits, network.length))
        if numbers is None:
            numbers = self._by_length[network.bits, network.length] = {}
            self._sort_lengths(network.bits)
        numbers[network.number >> network.bits - network.length] = number

    def remove(self, network: Network) -> None:
        """Remove a network. Raises KeyError if it is absent."""
        numbers = self._by_length[network.bits, network.length]
        del numbers[network.number >> network.bits - network.length]
        if not numbers:
            del self._by_length[network.bits, network.length]
            self._sort_lengths(network.bits)

    def _sort_lengths(self, bits: int) -> None:
        lengths = sorted((length for width, length in self._by_length if width == bits), reverse=True)
        self.lengths[bits] = tuple((bits - length, self._by_length[bits, length]) for length in lengths)
