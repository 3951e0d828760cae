"""Parse networks, times and rates as operators write them. Each function raises a ValueError that says what to give instead."""

from __future__ import annotations

import re
from ipaddress import ip_network

from topics.decisions import MAX_AMOUNT
from topics.errors import OperatorError
from topics.networks import canonical_network, network_of
from topics.overrides import canonical_name, is_name
from topics.times import parse_time_ms

UNITS_MS = {"s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
PER_MINUTE = {"s": 60.0, "m": 1.0, "min": 1.0, "h": 1 / 60, "d": 1 / 1440}
MAX_SPAN_MS = 100 * 366 * 86_400_000
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,3})?) ?(s|m|min|h|d|w)")
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?/ ?(s|m|min|h|d)")


def parse_target(text: str) -> str:
    """Return the canonical text of a network, an address or a name suffix (``client:.example.com``)."""
    if is_name(text):
        return canonical_name(text)
    try:
        return canonical_network(text)
    except ValueError:
        pass
    try:
        corrected = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network: give one such as 192.0.2.0/24 or 2001:db8::/32") from None
    raise ValueError(f"{text!r} has bits set below its prefix: give {corrected}")


def parse_network(text: str, *, whole_keys: bool = False) -> str:
    """Return the canonical text of a network or address; ``whole_keys`` refuses networks smaller than a /64."""
    network = parse_target(text)
    if is_name(network):
        raise ValueError(f"{text!r} is a name: give a network; names can only be connectors")
    if whole_keys and not network_of(network).has_whole_keys:
        raise ValueError(f"{network} is smaller than a /64, by which IPv6 is counted: give the /64")
    return network


def parse_span_ms(text: str) -> int:
    """Return a time span such as ``2h`` or ``90 min`` in ms."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None or not 0 < float(match[1]) * UNITS_MS[match[2]] <= MAX_SPAN_MS:
        raise ValueError(f"{text!r} is no time span: give one such as 30m, 2h or 7d")
    return round(float(match[1]) * UNITS_MS[match[2]])


def parse_end_ms(text: str, now_ms: int) -> int:
    """Return the end that a time span from now, or a time (UTC if it has no zone), gives."""
    try:
        return now_ms + parse_span_ms(text)
    except ValueError:
        pass
    try:
        return parse_time_ms(text.strip())
    except OperatorError:
        raise ValueError(
            f"{text!r} is no end: give a span such as 2h or 7d, or a time such as 2030-01-31T18:00"
        ) from None


def parse_rate_per_min(text: str) -> float:
    """Return a rate such as ``60/h`` in messages per minute."""
    match = _RATE.fullmatch(text.strip().lower())
    if match is None or float(match[1]) * PER_MINUTE[match[2]] > MAX_AMOUNT:
        raise ValueError(f"{text!r} is no rate: give one such as 60/h or 2/min; 0/h lets nothing pass")
    return float(match[1]) * PER_MINUTE[match[2]]
