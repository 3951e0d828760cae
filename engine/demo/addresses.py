"""Assign addresses to senders: IPv4 in 10.0.0.0/8, IPv6 in 2001:db8::/32, which nobody has on the internet.

The attackers of the last day have the documentation networks (192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24).

A slot has 24 bits: network (an IPv4 /24, an IPv6 /48) and host (last byte, or /64). Most networks have one or two senders,
some have dozens; regulars, newcomers and scanners share networks, as at any hosting company.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from topics.keys import IPV4_TAG

_IPV4_NET = IPV4_TAG | 10 << 24
_IPV6_NET = 0x2001_0DB8 << 32
ROTATION_SITE = 0x0BAD  # 2001:db8:bad::/48 is reserved for the rotating attacker

_MAX_NETWORKS = 60_000
_HOSTS = 254
_STRIDE = 89  # no common factor with 254, so hosts of a network are distinct and look scattered


def assign_slots(rng: np.random.Generator, count: int) -> npt.NDArray[np.uint64]:
    """Return `count` distinct slots in random order: network << 8 | host. Limit: about 300,000."""
    blocks = rng.permutation(np.setdiff1d(np.arange(1, 1 << 16), [ROTATION_SITE]))
    used = min(_MAX_NETWORKS, max(1, count // 2))
    chosen = (used * rng.random(count) ** 1.5).astype(np.int64)
    order = np.argsort(chosen, kind="stable")
    hosts = np.bincount(chosen, minlength=used)
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count) - np.repeat(np.cumsum(hosts) - hosts, hosts)
    assert not count or hosts.max() <= _HOSTS, "a network is full"
    host = (blocks[chosen] * 7 + rank * _STRIDE) % _HOSTS + 1
    return (blocks[chosen] << 8 | host).astype(np.uint64)


def upper_half(slots: npt.NDArray[np.uint64], is_v6: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """Return the 64-bit key of each slot: an IPv6 /64, or 0xFFFFFFFF00000000 | IPv4 address."""
    v4 = slots | np.uint64(_IPV4_NET)
    v6 = (slots >> np.uint64(8)) << np.uint64(16) | slots & np.uint64(0xFF) | np.uint64(_IPV6_NET)
    return np.where(is_v6, v6, v4)


def lower_half(rng: np.random.Generator, is_v6: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """Return the host parts: 0 for IPv4; for IPv6 often a small number (`::19`), else 64 random bits."""
    count = len(is_v6)
    numbered = rng.integers(1, 64, count, np.uint64, endpoint=True)
    random = rng.integers(0, 1 << 64, count, np.uint64)
    return np.where(is_v6, np.where(rng.random(count) < 0.6, numbered, random), np.uint64(0))
