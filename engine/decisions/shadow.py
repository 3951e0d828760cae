"""What the engine only pretends to throttle: everything, what it decides for some reasons, or what lies in some networks.

Counters, rows and verdicts know nothing of it, so a shadow decides as the same engine would without one; only what its
decisions are called differs. A decision falls in a network's shadow if the two share an address: one on a wider network
around it does too, or it would defer within. So does one on an IPv6 /64 for any address in it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network

from topics.decisions import SHADOW, THROTTLE
from topics.keys import overlap

KEY_BITS = 64  # of an IPv6 address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Shadow:
    """``everything``: all decisions; ``reasons``: of decisions; ``networks``: CIDR, none smaller than a key."""

    everything: bool = False
    reasons: frozenset[str] = frozenset()
    networks: tuple[str, ...] = ()

    def verdict(self, network: str, reason: str) -> str:
        """What a throttle of a network is called."""
        return SHADOW if self.everything or reason in self.reasons or self._touches(network) else THROTTLE

    @cached_property
    def digest(self) -> int:
        """A number of 64 bits that tells shadows apart, 0 for none."""
        said = str(self)
        return int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "big") if said else 0

    def __str__(self) -> str:
        """In words; empty if there is no shadow."""
        return "everything" if self.everything else ", ".join([*sorted(self.reasons), *self.networks])

    def _touches(self, network: str) -> bool:
        if not self.networks:
            return False
        found = ip_network(network)
        return any(overlap(found, one) for one in self._parsed)

    @cached_property
    def _parsed(self) -> list[Network]:
        return [ip_network(network) for network in self.networks]


NO_SHADOW = Shadow()


def shadow_of(everything: bool, reasons: list[str], networks: list[str]) -> Shadow:
    """A shadow as an operator wrote it."""
    found = sorted({_whole_key(ip_network(network)) for network in networks}, key=lambda one: (one.version, one))
    return Shadow(everything, frozenset(reasons), tuple(map(str, found)))


def _whole_key(network: Network) -> Network:
    return network.supernet(new_prefix=KEY_BITS) if network.version == 6 and network.prefixlen > KEY_BITS else network
