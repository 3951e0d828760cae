"""Index of the operators' overrides by network, each with the times in which it applies.

An override applies while the asked clock is in [created, until). The engine asks by a partition's event-time clock, so
replays and restarts apply it at the same offset; commands and page ask by the wall clock. A later override of the same
network, or a removal, ends an earlier one at its own `created`. Ended overrides stay for ``kept_ms``, for readers that
start at an earlier event.

The engine applies overrides of whole keys only (IPv4, and IPv6 up to /64). It ignores names and smaller networks, which
edges apply to single addresses.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from topics.networks import Network, network_of
from topics.overrides import THROTTLE, Override, OverrideRecord, is_name

KEPT_MS = 7 * 86_400_000
NEVER_MS = (1 << 63) - 1


class OverrideIndex:
    """The overrides of ``records``, which are in topic order. Memory: one entry per network, and its last ``kept_ms``."""

    def __init__(self, records: Iterable[OverrideRecord] = (), kept_ms: int = NEVER_MS) -> None:
        self._kept_ms = kept_ms
        self._overrides: dict[str, list[Override]] = {}  # by network or name, in topic order
        self._texts: dict[Network, str] = {}  # networks of `_overrides`, without names
        self._lengths: dict[tuple[int, int], int] = {}  # networks of `_texts`, by width and prefix length
        self._change_times_ms: list[int] = []  # sorted: when an override of whole keys begins or ends
        for record in records:
            self.add(record)

    def __bool__(self) -> bool:
        return bool(self._overrides)

    def add(self, record: OverrideRecord) -> str | None:
        """Add the next record of the topic and return its network, None if the engine doesn't apply it."""
        network = None if is_name(record.network) else network_of(record.network)
        earlier = self._overrides.get(record.network, [])
        at_ms = record.created
        kept = [_ended(override, at_ms) for override in earlier if override.lasts(at_ms - self._kept_ms)]
        kept = [override for override in kept if override.lasts(override.created)]
        if isinstance(record, Override):
            kept.append(record)
        if kept:
            self._overrides[record.network] = kept
        elif earlier:
            del self._overrides[record.network]
        if network is not None:
            self._index_network(network, record.network)
        if network is None or not network.has_whole_keys:
            return None
        self._add_change_time(at_ms)
        if isinstance(record, Override) and record.until is not None:
            self._add_change_time(record.until)
        return record.network

    def networks(self) -> list[str]:
        """Return all networks of whole keys with an override that applies, will apply, or ended within ``kept_ms``."""
        return [text for network, text in self._texts.items() if network.has_whole_keys]

    def active(self, network: str, at_ms: int) -> Override | None:
        """Return the override of exactly this network that applies at a time."""
        for override in self._overrides.get(network, ()):
            if override.created <= at_ms and override.lasts(at_ms):
                return override
        return None

    def latest(self, network: str) -> Override | None:
        """Return the last override of exactly this network or name, None if it ended more than ``kept_ms`` ago."""
        overrides = self._overrides.get(network)
        return overrides[-1] if overrides else None

    def covering(self, network: Network, at_ms: int) -> Override | None:
        """Return the override that applies to a network at a time: that of the smallest network around it, or its own."""
        for text in self._around(network):
            override = self.active(text, at_ms)
            if override is not None:
                return override
        return None

    def replaced_by(self, overrides: Iterable[Override]) -> list[Override]:
        """Return the overrides that ended because these began."""
        return [
            earlier
            for override in overrides
            for earlier in self._overrides[override.network]
            if earlier is not override and earlier.until == override.created
        ]

    def next_change_ms(self, after_ms: int) -> int:
        """Return the first time after `after_ms` at which an override of whole keys begins or ends, else `NEVER_MS`."""
        slot = bisect_right(self._change_times_ms, after_ms)
        return self._change_times_ms[slot] if slot < len(self._change_times_ms) else NEVER_MS

    def changed(self, after_ms: int, up_to_ms: int) -> list[Override]:
        """Return the overrides of whole keys that begin or end in (after_ms, up_to_ms], by network text."""
        return [
            override
            for network in sorted(self.networks())
            for override in self._overrides[network]
            if after_ms < override.created <= up_to_ms
            or (override.until is not None and after_ms < override.until <= up_to_ms)
        ]

    def unexpired(self, network: str, now_ms: int) -> Override | None:
        """Return the last override of exactly this network or name, unless it has expired.

        Unlike `active` it includes one whose `created` is ahead of the clock, as another machine's may be.
        """
        override = self.latest(network)
        return override if override is not None and override.lasts(now_ms) else None

    def all_unexpired(self, now_ms: int) -> list[Override]:
        """Return every override that hasn't expired: networks in address order, then names."""
        networks = [self._texts[network] for network in sorted(self._texts)]
        names = sorted(text for text in self._overrides if is_name(text))
        return [override for text in (*networks, *names) if (override := self.unexpired(text, now_ms)) is not None]

    def unexpired_around(self, network: str, now_ms: int) -> list[Override]:
        """Return the unexpired overrides of a network and of larger ones around it, the smallest first; of a name, its own."""
        texts = [network] if is_name(network) else self._around(network_of(network))
        return [override for text in texts if (override := self.unexpired(text, now_ms)) is not None]

    def throttles_within(self, network: str, now_ms: int) -> list[Override]:
        """Return the unexpired manual throttles of smaller networks in one, in address order."""
        if is_name(network):
            return []
        outer = network_of(network)
        inner = sorted(inner for inner in self._texts if outer.covers(inner) and inner != outer)
        found = [self.unexpired(self._texts[network], now_ms) for network in inner]
        return [override for override in found if override is not None and override.kind == THROTTLE]

    def _around(self, network: Network) -> Iterator[str]:
        """Yield the networks of the index that hold a network, the smallest first."""
        for length in range(network.length, -1, -1):
            if (network.bits, length) in self._lengths:
                text = self._texts.get(network.supernet(length))
                if text is not None:
                    yield text

    def _index_network(self, network: Network, text: str) -> None:
        width_and_length = network.bits, network.length
        if text in self._overrides:
            if network not in self._texts:
                self._texts[network] = text
                self._lengths[width_and_length] = self._lengths.get(width_and_length, 0) + 1
        elif self._texts.pop(network, None) is not None:
            self._lengths[width_and_length] -= 1
            if not self._lengths[width_and_length]:
                del self._lengths[width_and_length]

    def _add_change_time(self, at_ms: int) -> None:
        slot = bisect_right(self._change_times_ms, at_ms)
        if not slot or self._change_times_ms[slot - 1] != at_ms:
            insort(self._change_times_ms, at_ms)


def _ended(override: Override, at_ms: int) -> Override:
    return replace(override, until=at_ms) if override.lasts(at_ms) else override


def always_active(overrides: Sequence[Override]) -> OverrideIndex:
    """Return an index in which these overrides apply at any time."""
    return OverrideIndex([replace(override, created=0, until=None) for override in overrides])
