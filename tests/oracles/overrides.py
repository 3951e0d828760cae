"""Overrides in plain Python: one event after the other, every network by `ipaddress`, no index.

Shares no code with the engine's gate and override index. `PlainGate.before` is called with an event's time before its raw
decisions, `after` with each of them. Both return the published decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple


class PlainOverride(NamedTuple):
    """One override record."""

    network: str
    kind: str  # "exempt", "throttle" or "remove"
    created: int
    until: int | None
    offset: int


class PlainPublished(NamedTuple):
    """A published decision."""

    network: str
    verdict: str  # "throttle" or "release"
    offset: int  # source offset
    is_override: bool


def covers(outer: str, inner: str) -> bool:
    one, other = ip_network(outer), ip_network(inner)
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and other.subnet_of(one)
    return isinstance(other, IPv6Network) and other.subnet_of(one)


def has_whole_keys(network: str) -> bool:
    return ip_network(network).prefixlen <= (32 if "." in network else 64)


@dataclass
class PlainGate:
    """Applies overrides to a partition's raw decisions."""

    overrides: list[PlainOverride]  # in topic order
    owns: set[str]  # networks whose manual throttles this partition publishes
    clock_ms: int = -1
    throttled: dict[str, int] = field(default_factory=dict)

    def terms(self) -> list[PlainOverride]:
        """Return the overrides with the ends that later ones of the same network give them."""
        terms = []
        for i, override in enumerate(self.overrides):
            later = [other.created for other in self.overrides[i + 1 :] if other.network == override.network]
            ends = [end for end in (override.until, *later) if end is not None]
            until = min(ends, default=None)
            has_term = until is None or until > override.created
            if override.kind != "remove" and has_whole_keys(override.network) and has_term:
                terms.append(override._replace(until=until))
        return terms

    def active(self, at_ms: int) -> list[PlainOverride]:
        return [
            override
            for override in self.terms()
            if override.created <= at_ms and (override.until is None or override.until > at_ms)
        ]

    def before(self, t_ms: int, offset: int) -> set[PlainPublished]:
        """Return the decisions that advancing the clock to an event's time causes."""
        before_ms, self.clock_ms = self.clock_ms, max(self.clock_ms, t_ms)
        published: set[PlainPublished] = set()
        if self.clock_ms == before_ms:
            return published
        begun = [override for override in self.active(self.clock_ms) if override.created > before_ms]
        begun_throttles = {override.network for override in begun if override.kind == "throttle"}
        for override in self.terms():
            ends = override.until is not None and before_ms < override.until <= self.clock_ms
            if override.kind == "throttle" and ends and override.network in self.owns:
                published.add(PlainPublished(override.network, "release", override.offset, True))
        for network, until_ms in self.throttled.items():
            around = [override for override in begun if covers(override.network, network)]
            if around and network not in begun_throttles and until_ms > self.clock_ms:
                published.add(PlainPublished(network, "release", offset, True))
        for override in begun:
            if override.kind == "throttle" and override.network in self.owns:
                published.add(PlainPublished(override.network, "throttle", override.offset, True))
        return published

    def after(self, network: str, verdict: str, offset: int, until_ms: int) -> set[PlainPublished]:
        """Return the decisions that replace a raw decision."""
        active = [override for override in self.active(self.clock_ms) if covers(override.network, network)]
        if verdict == "throttle":
            self.throttled[network] = until_ms
        else:
            self.throttled.pop(network, None)
        if any(override.network == network and override.kind == "throttle" for override in active):
            return set()
        if active and verdict == "throttle":
            return {PlainPublished(network, "release", offset, True)}
        return {PlainPublished(network, verdict, offset, False)}
