"""Heartbeats of the edges on the `edges` topic: ``{"edge", "ts": ms, "alive", "breaker_open", "v": 1}``; key: the name.

An edge that is stopped properly sends a last heartbeat that isn't alive. ``breaker_open`` is optional.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from topics.closed_json import closed_text, parse_object, text_of, time_of

HEARTBEAT_VERSION = 1
MAX_NAME = 255  # characters of an edge's name


class BadHeartbeat(ValueError):
    """A record on the edges topic that isn't a heartbeat; the message says why."""


class Heartbeat(NamedTuple):
    """One sign of life of an edge."""

    edge: str
    ts: int  # ms since epoch, by the edge's clock
    alive: bool  # False: the edge was stopped properly
    breaker_open: bool = False  # the edge defers no mail, because it would defer too large a share


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """Return the heartbeat's JSON."""
    fields = {"edge": heartbeat.edge, "ts": heartbeat.ts, "alive": heartbeat.alive}
    if heartbeat.breaker_open:
        fields["breaker_open"] = True
    return orjson.dumps({**fields, "v": HEARTBEAT_VERSION})


def decode_heartbeat(key: bytes | None, value: bytes | None) -> Heartbeat:
    """Read a record of the edges topic. Raise `BadHeartbeat` if it is none."""
    try:
        return _parse(closed_text((key or b"").decode(), "key"), parse_object(value or b""))
    except ValueError as error:
        raise BadHeartbeat(f"not a heartbeat: {error}") from error


def _parse(name: str, fields: dict[str, Any]) -> Heartbeat:
    alive, breaker_open = fields.get("alive"), fields.get("breaker_open", False)
    if not 0 < len(name) <= MAX_NAME or text_of(fields, "edge", name) != name:
        raise ValueError("the key is not the edge's name")
    if type(alive) is not bool or type(breaker_open) is not bool:
        raise ValueError("alive or breaker_open is neither true nor false")
    return Heartbeat(name, time_of(fields, "ts"), alive, breaker_open)
