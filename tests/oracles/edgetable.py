"""The edge's table and look-up in plain Python: a list of decisions, `ipaddress`, one loop. Shares no code with the edge."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

Net = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass
class PlainDecision:
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
    decisions: dict[Net, PlainDecision] = field(default_factory=dict)
    exempt: dict[Net, int] = field(default_factory=dict)

    def expire(self, now_ms: int) -> None:
        self.decisions = {net: decision for net, decision in self.decisions.items() if decision.until_ms > now_ms}

    def put(self, network: str, decision: PlainDecision, now_ms: int) -> None:
        self.expire(now_ms)
        net = ipaddress.ip_network(network)
        if decision.until_ms <= now_ms:
            return
        old = self.decisions.get(net)
        if old is None:
            decision.tokens, decision.filled_ms = decision.burst, now_ms
        elif old.source == decision.source and decision.offset < old.offset:
            return
        else:
            decision.tokens, decision.filled_ms = old.tokens, old.filled_ms
        self.decisions[net] = decision

    def release(
        self, network: str, source: tuple[str, int] | None, offset: int, now_ms: int, *, ordered: bool = False
    ) -> None:
        self.expire(now_ms)
        old = self.decisions.get(ipaddress.ip_network(network))
        if old is None:
            return
        if source is not None:
            offset += ordered
            if source == old.source and (offset < old.offset or (offset == old.offset and not old.released)):
                return
            old.source, old.offset = source, offset
        old.released = True

    def lookup(self, ip: str, now_ms: int, *, consume: bool) -> tuple[str, float]:
        self.expire(now_ms)
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(ip)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        around = [net for net, decision in self.decisions.items() if address in net and not decision.released]
        if not around:
            return "unknown", 0.0
        if any(address in net and until_ms > now_ms for net, until_ms in self.exempt.items()):
            return "exempt", 0.0
        around.sort(key=lambda net: -net.prefixlen)
        enforced = [net for net in around if not self.decisions[net].shadow][:1]
        answers = [
            self.take_token(self.decisions[net], now_ms, consume=consume)
            for net in dict.fromkeys([around[0], *enforced])
        ]
        if not self.decisions[around[0]].shadow:
            return answers[0]
        would, now = answers[0], answers[1] if enforced else None
        if now is not None and (now[0] == "excess" or would[0] == "within"):
            return now
        return ("shadow", would[1]) if would[0] == "excess" else would

    def take_token(self, decision: PlainDecision, now_ms: int, *, consume: bool) -> tuple[str, float]:
        rate, burst = decision.rate_per_ms / self.edges, max(1.0, decision.burst / self.edges)
        decision.tokens = min(burst, decision.tokens + max(0, now_ms - decision.filled_ms) * rate)
        decision.filled_ms = now_ms
        if decision.tokens >= 1:
            decision.tokens -= 1 if consume else 0
            return "within", 0.0
        left = decision.until_ms - now_ms
        return "excess", min(left, (1 - decision.tokens) / rate) if rate else left
