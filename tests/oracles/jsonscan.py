"""A record's value read by orjson and `ipaddress` alone: the twin of the JSON scan.

A `Reading` is what the compiled scan must leave in its columns, whether it read the value itself or left it to the slow path.
A text is the reason why the value is no connection event.
"""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from typing import NamedTuple

from topics.events import PoisonRecord, parse_event

OUTCOMES = ("accepted", "deferred", "rejected")
IPV4_KEYS = 0xFFFFFFFF << 32


class Reading(NamedTuple):
    """A connection event as the detector gets it."""

    ts_ms: int
    key: int
    messages: int
    outcome: int  # 0 accepted, 1 deferred, 2 rejected


def key_of(ip: str) -> int:
    """Return the 64-bit key: an IPv6 address's upper half, or the IPv4 address (mapped ones too) under 32 ones."""
    address = ip_address(ip)
    if isinstance(address, IPv4Address):
        return IPV4_KEYS | int(address)
    mapped = address.ipv4_mapped
    return int(address) >> 64 if mapped is None else IPV4_KEYS | int(mapped)


def reading(value: bytes | None) -> Reading | str:
    """Return the event in a record's value, or the reason why there is none."""
    if value is None:
        return "null value"
    try:
        event = parse_event(value)
    except PoisonRecord as reason:
        return str(reason)
    return Reading(event.ts, key_of(event.ip), event.messages, OUTCOMES.index(event.outcome))
