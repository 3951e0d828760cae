"""The overrides, told plainly: one event after the other, every network by Python's `ipaddress`, no index. Shares nothing with
the engine's gate and book.

`PlainGate.before` is called with an event's time before its raw decisions, `after` with each of them; both give what is
published, as (network, "throttle" or "release", source offset, whether an operator ordered it).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

Net = IPv4Network | IPv6Network
Published = tuple[str, str, int, bool]


class Order(NamedTuple):
    """One thing an operator said. ``kind``: "exempt", "throttle" or "remove"."""

    network: str
    kind: str
    created: int
    until: int | None
    offset: int


def covers(outer: str, inner: str) -> bool:
    one, other = ip_network(outer), ip_network(inner)
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and other.subnet_of(one)
    return isinstance(other, IPv6Network) and other.subnet_of(one)


def whole_keys(network: str) -> bool:
    return ip_network(network).prefixlen <= (32 if "." in network else 64)


@dataclass
class PlainGate:
    """``orders``: in the order in which they were said; ``owns``: the networks whose throttles by hand are said here."""

    orders: list[Order]
    owns: set[str]
    clock_ms: int = -1
    held: dict[str, int] = field(default_factory=dict)

    def stated(self) -> list[Order]:
        """The orders with the ends that later ones of the same network give them."""
        found = []
        for i, order in enumerate(self.orders):
            later = [other.created for other in self.orders[i + 1 :] if other.network == order.network]
            ends = [end for end in (order.until, *later) if end is not None]
            until = min(ends, default=None)
            if order.kind != "remove" and whole_keys(order.network) and (until is None or until > order.created):
                found.append(order._replace(until=until))
        return found

    def reigning(self, at_ms: int) -> list[Order]:
        return [
            order for order in self.stated() if order.created <= at_ms and (order.until is None or order.until > at_ms)
        ]

    def before(self, t_ms: int, offset: int) -> set[Published]:
        """What the clock's move to an event of this time brings."""
        before_ms, self.clock_ms = self.clock_ms, max(self.clock_ms, t_ms)
        found: set[Published] = set()
        if self.clock_ms == before_ms:
            return found
        begun = [order for order in self.reigning(self.clock_ms) if order.created > before_ms]
        begun_throttles = {order.network for order in begun if order.kind == "throttle"}
        for order in self.stated():
            ends = order.until is not None and before_ms < order.until <= self.clock_ms
            if order.kind == "throttle" and ends and order.network in self.owns:
                found.add((order.network, "release", order.offset, True))
        for network, until_ms in self.held.items():
            around = [order for order in begun if covers(order.network, network)]
            if around and network not in begun_throttles and until_ms > self.clock_ms:
                found.add((network, "release", offset, True))
        for order in begun:
            if order.kind == "throttle" and order.network in self.owns:
                found.add((order.network, "throttle", order.offset, True))
        return found

    def after(self, network: str, verdict: str, offset: int, until_ms: int) -> set[Published]:
        """What becomes of a raw decision."""
        reigning = [order for order in self.reigning(self.clock_ms) if covers(order.network, network)]
        if verdict == "throttle":
            self.held[network] = until_ms
        else:
            self.held.pop(network, None)
        if any(order.network == network and order.kind == "throttle" for order in reigning):
            return set()
        if reigning and verdict == "throttle":
            return {(network, "release", offset, True)}
        return {(network, verdict, offset, False)}
