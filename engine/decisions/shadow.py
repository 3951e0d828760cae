"""Shadow mode: which decisions are published as shadow, so that they throttle nothing.

Counters, rows and verdicts don't depend on it: the engine decides the same with and without shadow mode, and only the
published verdict differs. A decision is in a network's shadow if the two share an address. That includes a decision on a
wider network, which would defer mail inside, and one on the IPv6 /64 of a single address.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from topics.decisions import SHADOW, THROTTLE
from topics.networks import IPV6_BITS, KEY_BITS, Network, canonical_network, network_of, overlap


@dataclass(frozen=True)
class ShadowRules:
    """The decisions that are in shadow."""

    everything: bool = False
    reasons: frozenset[str] = frozenset()  # of decisions
    networks: tuple[str, ...] = ()  # CIDR text, none smaller than a key

    def verdict(self, network: str, reason: str) -> str:
        """Return the verdict of a throttle of `network` for `reason`: throttle or shadow."""
        return SHADOW if self.everything or reason in self.reasons or self._overlaps(network) else THROTTLE

    @cached_property
    def digest(self) -> int:
        """A 64-bit hash that identifies the rules; 0 if nothing is in shadow."""
        text = str(self)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") if text else 0

    def __str__(self) -> str:
        """Return the rules as text for people; empty if nothing is in shadow."""
        return "everything" if self.everything else ", ".join([*sorted(self.reasons), *self.networks])

    def _overlaps(self, network: str) -> bool:
        if not self.networks:
            return False
        other = network_of(network)
        return any(overlap(other, own) for own in self._parsed)

    @cached_property
    def _parsed(self) -> list[Network]:
        return [network_of(network) for network in self.networks]


NO_SHADOW = ShadowRules()


def shadow_rules(everything: bool, reasons: list[str], networks: list[str]) -> ShadowRules:
    """Return the rules that the options name. Networks smaller than a key are widened to the key's."""
    widened = {_whole_keys(network_of(canonical_network(network))) for network in networks}
    return ShadowRules(everything, frozenset(reasons), tuple(map(str, sorted(widened))))


def _whole_keys(network: Network) -> Network:
    return network if network.bits != IPV6_BITS else network.supernet(min(network.length, KEY_BITS))
