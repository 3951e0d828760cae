"""How operators write networks, times and rates. Each function takes a text; ValueError says what to give instead."""

from __future__ import annotations

import re
from ipaddress import ip_network

from topics.errors import OperatorError
from topics.overrides import CLIENT, HELO, canonical, canonical_name
from topics.times import moment_ms

UNITS_MS = {"s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
PER_MINUTE = {"s": 60.0, "m": 1.0, "min": 1.0, "h": 1 / 60, "d": 1 / 1440}
MOST_MS = 100 * 366 * 86_400_000
MOST_RATE = 1e9
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,3})?) ?(s|m|min|h|d|w)")
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?/ ?(s|m|min|h|d)")


def place(text: str) -> tuple[str, bool]:
    """A network in CIDR text (an address is one too), or a suffix of a name (``client:.example.com``); whether it is a name."""
    if text.startswith((CLIENT, HELO)):
        return canonical_name(text), True
    try:
        return canonical(text), False
    except ValueError:
        pass
    try:
        mended = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network: give one such as 192.0.2.0/24 or 2001:db8::/32") from None
    raise ValueError(f"{text!r} has bits set below its prefix: give {mended}")


def network_from(text: str, *, whole_keys: bool = False) -> str:
    """A network; ``whole_keys``: none smaller than what the engine counts by. ValueError otherwise."""
    network, is_name = place(text)
    if is_name:
        raise ValueError(f"{text!r} is a name: give a network; names can only be connectors")
    if whole_keys and ":" in network and int(network.partition("/")[2]) > 64:
        raise ValueError(f"{network} is smaller than a /64, by which IPv6 is counted: give the /64")
    return network


def span_ms(text: str) -> int:
    """A time span such as ``2h`` or ``90 min``."""
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None or not 0 < float(found[1]) * UNITS_MS[found[2]] <= MOST_MS:
        raise ValueError(f"{text!r} is no time span: give one such as 30m, 2h or 7d")
    return round(float(found[1]) * UNITS_MS[found[2]])


def end_ms(text: str, now_ms: int) -> int:
    """When something ends: a time span from now on, or a moment, UTC unless it says otherwise."""
    try:
        return now_ms + span_ms(text)
    except ValueError:
        pass
    try:
        return moment_ms(text.strip())
    except OperatorError:
        raise ValueError(
            f"{text!r} is no end: give a span such as 2h or 7d, or a moment such as 2030-01-31T18:00"
        ) from None


def rate_per_min(text: str) -> float:
    """A rate such as ``60/h``: messages a minute."""
    found = _RATE.fullmatch(text.strip().lower())
    if found is None or float(found[1]) * PER_MINUTE[found[2]] > MOST_RATE:
        raise ValueError(f"{text!r} is no rate: give one such as 60/h or 2/min; 0/h lets nothing pass")
    return float(found[1]) * PER_MINUTE[found[2]]
