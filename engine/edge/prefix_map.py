"""Longest-prefix match: one dict of networks by prefix length, asked from the longest length to the shortest.

A look-up costs one dict access for each prefix length in use, a handful in practice and 160 at worst. A trie was
rejected: in Python each of its nodes costs as much as a whole dict access.
"""

from __future__ import annotations

from topics.networks import IPV4_BITS, IPV6_BITS, Network


class Prefixes:
    """Networks, each with a non-negative number (a row's place). ``lengths``: by width in bits, what a look-up walks through:
    pairs of shift and dict, the longest prefix first. (A call would cost it as much as a dict, a generator twice that.)"""

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], dict[int, int]] = {}
        self.lengths: dict[int, tuple[tuple[int, dict[int, int]], ...]] = {IPV4_BITS: (), IPV6_BITS: ()}

    def get(self, network: Network) -> int:
        """The number of exactly this network, -1 if it isn't here."""
        places = self._by_length.get((network.bits, network.length))
        return -1 if places is None else places.get(network.number >> network.bits - network.length, -1)

    def put(self, network: Network, number: int) -> None:
        """Add a network or replace its number."""
        places = self._by_length.get((network.bits, network.length))
        if places is None:
            places = self._by_length[network.bits, network.length] = {}
            self._order(network.bits)
        places[network.number >> network.bits - network.length] = number

    def remove(self, network: Network) -> None:
        """Remove a network that is here."""
        places = self._by_length[network.bits, network.length]
        del places[network.number >> network.bits - network.length]
        if not places:
            del self._by_length[network.bits, network.length]
            self._order(network.bits)

    def _order(self, bits: int) -> None:
        lengths = sorted((length for width, length in self._by_length if width == bits), reverse=True)
        self.lengths[bits] = tuple((bits - length, self._by_length[bits, length]) for length in lengths)
