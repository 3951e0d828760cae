"""The edge's table and look-up, told plainly: a list of decisions, Python's `ipaddress`, one loop. Shares nothing with it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

Net = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass
class Held:
    until_ms: int
    rate_per_ms: float
    burst: float
    source: tuple[str, int]
    offset: int
    released: bool
    tokens: float
    filled_ms: int
    shadow: bool = False


@dataclass
class PlainTable:
    edges: int = 1
    held: dict[Net, Held] = field(default_factory=dict)
    exempt: dict[Net, int] = field(default_factory=dict)

    def forget(self, now_ms: int) -> None:
        self.held = {net: held for net, held in self.held.items() if held.until_ms > now_ms}

    def put(self, network: str, held: Held, now_ms: int) -> None:
        self.forget(now_ms)
        net = ipaddress.ip_network(network)
        if held.until_ms <= now_ms:
            return
        there = self.held.get(net)
        if there is None:
            held.tokens, held.filled_ms = held.burst, now_ms
        elif there.source == held.source and held.offset < there.offset:
            return
        else:
            held.tokens, held.filled_ms = there.tokens, there.filled_ms
        self.held[net] = held

    def release(
        self, network: str, source: tuple[str, int] | None, offset: int, now_ms: int, *, ordered: bool = False
    ) -> None:
        self.forget(now_ms)
        there = self.held.get(ipaddress.ip_network(network))
        if there is None:
            return
        if source is not None:
            offset += ordered
            if source == there.source and (offset < there.offset or (offset == there.offset and not there.released)):
                return
            there.source, there.offset = source, offset
        there.released = True

    def lookup(self, ip: str, now_ms: int, *, take: bool) -> tuple[str, float]:
        self.forget(now_ms)
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(ip)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        around = [net for net, held in self.held.items() if address in net and not held.released]
        if not around:
            return "unknown", 0.0
        if any(address in net and until_ms > now_ms for net, until_ms in self.exempt.items()):
            return "exempt", 0.0
        around.sort(key=lambda net: -net.prefixlen)
        enforced = [net for net in around if not self.held[net].shadow][:1]
        said = [self.spend(self.held[net], now_ms, take=take) for net in dict.fromkeys([around[0], *enforced])]
        if not self.held[around[0]].shadow:
            return said[0]
        would, now = said[0], said[1] if enforced else None
        if now is not None and (now[0] == "excess" or would[0] == "within"):
            return now
        return ("shadow", would[1]) if would[0] == "excess" else would

    def spend(self, held: Held, now_ms: int, *, take: bool) -> tuple[str, float]:
        rate, burst = held.rate_per_ms / self.edges, max(1.0, held.burst / self.edges)
        held.tokens = min(burst, held.tokens + max(0, now_ms - held.filled_ms) * rate)
        held.filled_ms = now_ms
        if held.tokens >= 1:
            held.tokens -= 1 if take else 0
            return "within", 0.0
        left = held.until_ms - now_ms
        return "excess", min(left, (1 - held.tokens) / rate) if rate else left
