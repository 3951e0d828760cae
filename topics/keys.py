"""IP text to the 64-bit key that counts mail, and the key's two texts: record key and network.

IPv4 counts by address, IPv6 by /64, so a key is ``0xFFFFFFFF00000000 | address`` or the upper half of the IPv6 address;
``::ffff:a.b.c.d`` is the IPv4. Addresses in ffff:ffff::/32 would meet the IPv4 keys; they are multicast, never a client,
and refused. As strict as Python's `ipaddress` (no leading zeros, no spaces), and stricter: zone ids (``fe80::1%eth0``) are
refused. About 1.5 microseconds a new address; `topics.columns.keys` is the compiled twin.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

IPV4_TAG = 0xFFFFFFFF_00000000
LAST_KEY = (1 << 64) - 1
_MAPPED = 0xFFFF
_REFUSED = 0xFFFFFFFF


@lru_cache(maxsize=65536)
def key_of(ip: str) -> int:
    """The 64-bit key of an IPv4 or IPv6 address. ValueError when it is no address of a client."""
    if ":" not in ip:
        return IPV4_TAG | int(IPv4Address(ip))
    if "%" in ip:
        raise ValueError(f"{ip!r} has a zone id")
    address = int(IPv6Address(ip))
    if address >> 32 == _MAPPED:
        return IPV4_TAG | (address & 0xFFFFFFFF)
    if address >> 96 == _REFUSED:
        raise ValueError(f"{ip!r} is multicast, never a client")
    return address >> 64


def key_text(key: int) -> str:
    """The record key on the connections topic: ``192.0.2.7`` or ``2001:db8:1:2::/64``."""
    if not 0 <= key <= LAST_KEY:
        raise ValueError(f"{key} is not a 64-bit key")
    if key >= IPV4_TAG:
        return str(IPv4Address(key & 0xFFFFFFFF))
    return f"{IPv6Address(key << 64)}/64"


def network_text(key: int, length: int = 0) -> str:
    """The network in decisions, as CIDR: ``192.0.2.7/32`` or ``2001:db8:1:2::/64``; with a ``length`` the prefix around the
    key, such as ``192.0.2.0/24`` or ``2001:db8::/32``."""
    if not length:
        return f"{key_text(key)}/32" if key >= IPV4_TAG else key_text(key)
    if key >= IPV4_TAG:
        return str(IPv4Network((key & 0xFFFFFFFF, length), strict=False))
    return str(IPv6Network((key << 64, length), strict=False))


def key_range(network: str) -> tuple[int, int]:
    """The first and last key of a network of any size, as CIDR. ValueError when it is none, or smaller than a key."""
    found = ip_network(network)
    if found.version == 4:
        return IPV4_TAG | int(found[0]), IPV4_TAG | int(found[-1])
    if found.prefixlen > 64:
        raise ValueError(f"{network!r} is smaller than a /64, by which IPv6 is counted")
    first, last = int(found[0]) >> 64, int(found[-1]) >> 64
    if last >= IPV4_TAG:
        raise ValueError(f"{network!r} holds multicast addresses, never clients")
    return first, last


def key_of_network(network: str) -> int:
    """The key whose `network_text` this is. ValueError for other prefix lengths and for bits set below the prefix."""
    address, slash, length = network.partition("/")
    key = key_of(address)
    if not slash or length != ("64" if ":" in address else "32"):
        raise ValueError(f"{network!r} is neither an IPv4 /32 nor an IPv6 /64")
    if ":" in address and int(IPv6Address(address)) != key << 64:
        raise ValueError(f"{network!r} has bits set below its /64")
    return key


def overlap(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    """Whether two networks share an address."""
    return one.version == other.version and one.overlaps(other)
