"""The messages that an edge defers, one event after the other, written from the README alone."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

Mail = tuple[int, str, int]  # event time in ms, address, messages


def deferred(mails: Sequence[Mail], decisions: Sequence[dict[str, Any]], delay_ms: int) -> list[int]:
    """Return the messages deferred of each mail. `decisions`: as JSON, in order of issue."""
    active: dict[str, dict[str, float]] = {}
    waiting = list(decisions)
    result = []
    for now_ms, address, messages in mails:
        while waiting and waiting[0]["issued"] + delay_ms <= now_ms:
            decision = waiting.pop(0)
            arrived = decision["issued"] + delay_ms
            old = active.pop(decision["network"], None)
            if decision["verdict"] == "throttle":
                size = max(decision["burst"], 1.0) if decision["rate_per_min"] > 0 else decision["burst"]
                tokens = size
                if old and old["until"] > arrived:
                    tokens = min(size, old["tokens"] + (arrived - old["at"]) * old["rate"])
                active[decision["network"]] = {
                    "tokens": tokens, "size": size, "rate": decision["rate_per_min"] / 60_000,
                    "at": arrived, "until": decision["until"],
                }  # fmt: skip
        passed = messages
        around = [
            ip_network(network)
            for network, bucket in active.items()
            if ip_address(address) in ip_network(network) and now_ms < bucket["until"]
        ]
        if around:
            bucket = active[str(max(around, key=lambda network: network.prefixlen))]
            filled = bucket["tokens"] + (now_ms - bucket["at"]) * bucket["rate"]
            bucket["tokens"], bucket["at"] = min(bucket["size"], filled), now_ms
            passed = min(messages, int(bucket["tokens"] + 1e-9))
            bucket["tokens"] -= passed
        result.append(messages - passed)
    return result
