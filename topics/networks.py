"""Networks of addresses as integers, and as ranges of the 64-bit keys that count mail: the only network type.

An address is a width (32 or 128 bits) and a number; ``::ffff:a.b.c.d`` is the IPv4 address. `address_of` is as strict as
inet_pton: no leading zeros, no zone ids, no spaces. It takes about 0.4 microseconds; `ipaddress` takes 1.5, so only
`canonical_network` and `key_range`, which read an operator's text, use that.

A key (`topics.keys`) is one IPv4 address or one IPv6 /64.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

from topics.keys import IPV4_TAG, key_of

IPV4_BITS, IPV6_BITS = 32, 128
KEY_BITS = 64  # of an IPv6 address
_MAPPED = 0xFFFF
_MAPPED_NETWORK = IPv6Network("::ffff:0:0/96")


class Network(NamedTuple):
    """A network. Networks sort by width, first address and length, so a wider network precedes those inside it."""

    bits: int  # width of its addresses: 32 or 128
    number: int  # first address; the bits after the prefix are 0
    length: int  # of the prefix, in bits

    def __str__(self) -> str:
        """Return CIDR text: ``192.0.2.0/24``."""
        address = IPv4Address(self.number) if self.bits == IPV4_BITS else IPv6Address(self.number)
        return f"{address}/{self.length}"

    @property
    def has_whole_keys(self) -> bool:
        """True unless it is an IPv6 network smaller than a /64, which is less than one key."""
        return self.bits == IPV4_BITS or self.length <= KEY_BITS

    @property
    def first_key(self) -> int:
        """The key of its first address."""
        return IPV4_TAG | self.number if self.bits == IPV4_BITS else self.number >> IPV6_BITS - KEY_BITS

    def supernet(self, length: int) -> Network:
        """Return the network of a shorter or equal prefix length around this one."""
        below = self.bits - length
        return Network(self.bits, self.number >> below << below, length)

    def covers(self, other: Network) -> bool:
        """Return True if every address of `other` is in this network."""
        return self.bits == other.bits and self.length <= other.length and other.supernet(self.length) == self

    def covers_key(self, key: int) -> bool:
        """Return True if every address of a key is in this network."""
        return self.covers(network_of_key(key))


def address_of(ip: str) -> tuple[int, int]:
    """Return width in bits and number of an address. Raise ValueError for other text."""
    try:
        if ":" not in ip:
            return IPV4_BITS, int.from_bytes(inet_pton(AF_INET, ip))
        number = int.from_bytes(inet_pton(AF_INET6, ip))
    except (OSError, UnicodeEncodeError):
        raise ValueError(f"{ip!r} is not an address") from None
    if number >> 32 == _MAPPED:
        return IPV4_BITS, number & 0xFFFFFFFF
    return IPV6_BITS, number


def network_of(text: str) -> Network:
    """Return the network of CIDR text; an address without length is a network of one.

    Raise ValueError for other text and if bits are set below the prefix.
    """
    address, slash, length_text = text.partition("/")
    bits, number = address_of(address)
    if not slash:
        return Network(bits, number, bits)
    if not (length_text.isascii() and length_text.isdigit() and len(length_text) <= 3):
        raise ValueError(f"{text!r} has no prefix length")
    length = int(length_text) - (96 if bits == IPV4_BITS and ":" in address else 0)
    if not 0 <= length <= bits:
        raise ValueError(f"{text!r} has a prefix of an impossible length")
    if number & ((1 << bits - length) - 1):
        raise ValueError(f"{text!r} has bits set below its prefix")
    return Network(bits, number, length)


def network_around(ip: str, length: int) -> Network:
    """Return the network of a prefix length that an address is in."""
    bits, number = address_of(ip)
    return Network(bits, number, bits).supernet(length)


def network_of_key(key: int, length: int = 0) -> Network:
    """Return the network of a key (an IPv4 /32 or an IPv6 /64), or the network of a prefix length around it."""
    if key >= IPV4_TAG:
        own = Network(IPV4_BITS, key - IPV4_TAG, IPV4_BITS)
    else:
        own = Network(IPV6_BITS, key << IPV6_BITS - KEY_BITS, KEY_BITS)
    return own.supernet(length) if length else own


def network_text(key: int, length: int = 0) -> str:
    """Return a key's network as decisions name it: ``192.0.2.7/32``, ``2001:db8:1:2::/64``, or the prefix around the key."""
    return str(network_of_key(key, length))


def canonical_network(text: str) -> str:
    """Return the one CIDR text of a network or address; ``::ffff:a.b.c.d`` becomes the IPv4 address.

    Takes what `ipaddress` takes, netmasks included. Raise ValueError for other text and for bits set below the prefix.
    """
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED_NETWORK):
        return str(ip_network((int(network[0]) & 0xFFFFFFFF, network.prefixlen - 96)))
    return str(network)


def key_range(text: str) -> tuple[int, int]:
    """Return the first and last key of a network of any size. Raise ValueError if it is none, or smaller than a key."""
    network = ip_network(text)
    if network.version == 4:
        return IPV4_TAG | int(network[0]), IPV4_TAG | int(network[-1])
    if network.prefixlen > KEY_BITS:
        raise ValueError(f"{text!r} is smaller than a /64, by which IPv6 is counted")
    first, last = int(network[0]) >> KEY_BITS, int(network[-1]) >> KEY_BITS
    if last >= IPV4_TAG:
        raise ValueError(f"{text!r} holds multicast addresses, never clients")
    return first, last


def key_of_network(text: str) -> int:
    """Return the key whose `network_text` this is. Raise ValueError for other lengths and for bits set below the prefix."""
    address, slash, length = text.partition("/")
    key = key_of(address)
    if not slash or length != ("64" if ":" in address else "32"):
        raise ValueError(f"{text!r} is neither an IPv4 /32 nor an IPv6 /64")
    if ":" in address and int(IPv6Address(address)) != key << KEY_BITS:
        raise ValueError(f"{text!r} has bits set below its /64")
    return key


def overlap(one: Network, other: Network) -> bool:
    """Return True if two networks share an address."""
    return one.covers(other) or other.covers(one)
