"""Who has which address. IPv4 senders live in 10.0.0.0/8 and IPv6 ones in 2001:db8::/32, which are nobody's on the
internet; the attackers of the last day have the documentation networks (192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24).

A place is 24 bits: neighbourhood (an IPv4 /24, an IPv6 /48) and house (last octet, or /64). Most neighbourhoods have one
or two inhabitants, some have dozens, and regulars, newcomers and scanners live door to door, as at any hosting company.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from topics.keys import IPV4_TAG

_IPV4_NET = IPV4_TAG | 10 << 24
_IPV6_NET = 0x2001_0DB8 << 32
ROTATION_SITE = 0x0BAD  # 2001:db8:bad::/48 is left to the rotating attacker

_MOST_NEIGHBOURHOODS = 60_000
_HOUSES = 254
_STRIDE = 89  # no common factor with 254, so neighbours' houses are distinct and look scattered


def settle(rng: np.random.Generator, count: int) -> npt.NDArray[np.uint64]:
    """``count`` distinct places, at most about 300,000, in random order: neighbourhood << 8 | house."""
    blocks = rng.permutation(np.setdiff1d(np.arange(1, 1 << 16), [ROTATION_SITE]))
    used = min(_MOST_NEIGHBOURHOODS, max(1, count // 2))
    chosen = (used * rng.random(count) ** 1.5).astype(np.int64)
    order = np.argsort(chosen, kind="stable")
    residents = np.bincount(chosen, minlength=used)
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count) - np.repeat(np.cumsum(residents) - residents, residents)
    assert not count or residents.max() <= _HOUSES, "a neighbourhood is full"
    house = (blocks[chosen] * 7 + rank * _STRIDE) % _HOUSES + 1
    return (blocks[chosen] << 8 | house).astype(np.uint64)


def upper_half(places: npt.NDArray[np.uint64], is_v6: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """The 64-bit key of each place: an IPv6 /64, or 0xFFFFFFFF00000000 | IPv4 address."""
    v4 = places | np.uint64(_IPV4_NET)
    v6 = (places >> np.uint64(8)) << np.uint64(16) | places & np.uint64(0xFF) | np.uint64(_IPV6_NET)
    return np.where(is_v6, v6, v4)


def lower_half(rng: np.random.Generator, is_v6: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """The host part: 0 for IPv4; for IPv6 often a small number (``::19``), else 64 random bits."""
    count = len(is_v6)
    numbered = rng.integers(1, 64, count, np.uint64, endpoint=True)
    random = rng.integers(0, 1 << 64, count, np.uint64)
    return np.where(is_v6, np.where(rng.random(count) < 0.6, numbered, random), np.uint64(0))
