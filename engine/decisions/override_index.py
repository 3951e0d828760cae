"""The operators' overrides by network, each with the event times in which it is in force. Pure: no Kafka, no clock.

An override is in force for a partition while the partition's clock (its greatest event time) is in [created, until). That is
a function of the events, so whoever goes through them again, after a crash or in a replay, finds it in force at the same
ones. A later override of a network, or a removal, ends an earlier one at its own time; what has ended is kept for those who
read again.

Only networks of whole keys (IPv4, IPv6 up to /64) count here: within a key the edges alone can tell addresses apart.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_network
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from topics.keys import IPV4_TAG
from topics.overrides import CLIENT, HELO, Override, Said

KEPT_MS = 7 * 86_400_000
NEVER_MS = (1 << 63) - 1


class Span(NamedTuple):
    """A network as keys: those whose first ``length`` bits, of ``bits`` (32: IPv4, 64: IPv6), are ``number``."""

    bits: int
    number: int
    length: int


@lru_cache(maxsize=65536)
def span_of(network: str) -> Span | None:
    """The keys of a network in CIDR text; None if it is smaller than a key."""
    found = ip_network(network)
    if found.version == 4:
        return Span(32, int(found[0]) >> 32 - found.prefixlen, found.prefixlen)
    return None if found.prefixlen > 64 else Span(64, int(found[0]) >> 128 - found.prefixlen, found.prefixlen)


def _address(key: int) -> tuple[int, int]:
    return (32, key - IPV4_TAG) if key >= IPV4_TAG else (64, key)


class Book:
    """What has been said so far; ``said``: all of it, if nothing more comes. What was over for ``kept_ms`` when its network's
    next override was given is forgotten."""

    def __init__(self, said: Sequence[Said] = (), kept_ms: int = NEVER_MS) -> None:
        self._kept_ms = kept_ms
        self._by_network: dict[str, list[Override]] = {}
        self._by_length: dict[tuple[int, int], dict[int, str]] = {}
        self._moments: list[int] = []  # of event time, at which something begins or ends, in order
        for one in said:
            self.take(one)

    def __bool__(self) -> bool:
        return bool(self._by_network)

    def take(self, said: Said) -> str | None:
        """Take in what was said next; the network if it concerns keys."""
        span = None if said.network.startswith((CLIENT, HELO)) else span_of(said.network)
        if span is None:
            return None
        held = self._by_network.get(said.network, [])
        until_ms = said.created
        kept = [_ended(one, until_ms) for one in held if one.until is None or one.until > until_ms - self._kept_ms]
        kept = [one for one in kept if one.until is None or one.until > one.created]
        self._note(until_ms)
        if isinstance(said, Override):
            kept.append(said)
            if said.until is not None:
                self._note(said.until)
        if kept:
            self._by_network[said.network] = kept
            self._by_length.setdefault((span.bits, span.length), {})[span.number] = said.network
        elif held:
            del self._by_network[said.network]
            del self._by_length[span.bits, span.length][span.number]
        return said.network

    def networks(self) -> list[str]:
        """All networks with an override that is in force, to come, or not long over."""
        return list(self._by_network)

    def of(self, network: str, at_ms: int) -> Override | None:
        """The override of exactly this network that is in force."""
        for override in self._by_network.get(network, ()):
            if override.created <= at_ms and override.lasts(at_ms):
                return override
        return None

    def newest(self, network: str) -> Override | None:
        """What was said of exactly this network last, None if that was long ago."""
        held = self._by_network.get(network)
        return held[-1] if held else None

    def replaced(self, overrides: Sequence[Override]) -> Iterator[Override]:
        """What ended because these began."""
        for override in overrides:
            held = self._by_network[override.network]
            yield from (one for one in held if one is not override and one.until == override.created)

    def covering(self, key: int, prefix: int, at_ms: int) -> Override | None:
        """The override of the smallest network around a key, or around its prefix of a length (0: the key's own network), that
        is in force."""
        bits, address = _address(key)
        for length in range(prefix or bits, -1, -1):
            networks = self._by_length.get((bits, length))
            if networks:
                network = networks.get(address >> bits - length)
                override = None if network is None else self.of(network, at_ms)
                if override is not None:
                    return override
        return None

    def next_moment(self, after_ms: int) -> int:
        """The first moment after a time at which something begins or ends."""
        place = bisect_right(self._moments, after_ms)
        return self._moments[place] if place < len(self._moments) else NEVER_MS

    def changed(self, after_ms: int, up_to_ms: int) -> list[Override]:
        """The overrides that begin, or end, in a span of time that holds its end and not its beginning; by network."""
        return [
            override
            for network in sorted(self._by_network)
            for override in self._by_network[network]
            if after_ms < override.created <= up_to_ms
            or (override.until is not None and after_ms < override.until <= up_to_ms)
        ]

    def _note(self, moment_ms: int) -> None:
        place = bisect_right(self._moments, moment_ms)
        if not place or self._moments[place - 1] != moment_ms:
            insort(self._moments, moment_ms)


def _ended(override: Override, at_ms: int) -> Override:
    return override if override.until is not None and override.until <= at_ms else replace(override, until=at_ms)


def held_by(
    networks: Sequence[str], keys: npt.NDArray[np.uint64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which of the networks ``keys[i]`` with ``lengths[i]`` (0: the key's own) lie in any of ``networks``. One pass over
    the keys for each length among the networks."""
    inside = np.zeros(len(keys), np.bool_)
    four = keys >= np.uint64(IPV4_TAG)
    own = np.where(four, 32, 64)
    lengths = np.where(lengths == 0, own, lengths)
    by_length: dict[tuple[int, int], list[int]] = {}
    for span in map(span_of, networks):
        if span is not None:
            by_length.setdefault((span.bits, span.length), []).append(span.number)
    for (bits, length), numbers in by_length.items():
        addresses = keys & np.uint64(0xFFFFFFFF) if bits == 32 else keys
        heads = addresses >> np.uint64(bits - length) if length else np.zeros(len(keys), np.uint64)
        inside |= (own == bits) & (lengths >= length) & np.isin(heads, np.array(numbers, np.uint64))
    return inside
