"""Connection events: one client connection of an MTA. A JSON object on the connections topic and a line of NDJSON.

``ts`` (ms since epoch) and ``ip`` are required. ``messages``, default 1, and ``recipients``, default ``messages``, are 0 to
1,000,000. ``outcome`` is accepted (the default), deferred or rejected. Other fields are ignored. A bool, a float or null is
not an integer. Of a duplicate name the last value counts, as in orjson. Text that orjson refuses (NaN, invalid UTF-8, deep
nesting) is not JSON, and integers beyond 64 bits are floats.

This module is the slow path and the definition; `topics.columns.scan` reads the plain form at full speed, with the same
result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from topics.keys import key_of

ACCEPTED, DEFERRED, REJECTED = "accepted", "deferred", "rejected"
OUTCOMES = frozenset((ACCEPTED, DEFERRED, REJECTED))
LAST_TS_MS = 253_402_300_799_999
MAX_MESSAGES = 1_000_000


class PoisonRecord(ValueError):
    """A record that is no connection event; the message is one of a few fixed reasons."""


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """One client connection."""

    ts: int  # event time, ms since epoch
    ip: str  # IPv4 or IPv6 text
    mta: str  # name of the MTA, "" if unknown
    messages: int  # offered in this connection
    recipients: int
    outcome: str  # "accepted", "deferred" or "rejected"


def _integer(fields: dict[str, Any], name: str, most: int) -> int:
    value = fields[name]
    if type(value) is not int:
        raise PoisonRecord(f"{name} not an integer")
    if not 0 <= value <= most:
        raise PoisonRecord(f"{name} out of range")
    return value


def _address(fields: dict[str, Any]) -> str:
    ip = fields.get("ip", "")
    if "ip" not in fields:
        raise PoisonRecord("ip missing")
    if type(ip) is not str:
        raise PoisonRecord("ip not text")
    try:
        key_of(ip)
    except ValueError:
        raise PoisonRecord("ip not an address") from None
    return ip


def parse_event(record: bytes) -> ConnectionEvent:
    """Read one record. Raise PoisonRecord, and no other exception, if it breaks the contract."""
    try:
        fields = orjson.loads(record)
    except orjson.JSONDecodeError:
        raise PoisonRecord("not JSON") from None
    if type(fields) is not dict:
        raise PoisonRecord("not an object")
    if "ts" not in fields:
        raise PoisonRecord("ts missing")
    ts = _integer(fields, "ts", LAST_TS_MS)
    ip = _address(fields)
    messages = _integer(fields, "messages", MAX_MESSAGES) if "messages" in fields else 1
    recipients = _integer(fields, "recipients", MAX_MESSAGES) if "recipients" in fields else messages
    outcome = fields.get("outcome", ACCEPTED)
    if type(outcome) is not str or outcome not in OUTCOMES:
        raise PoisonRecord("outcome unknown")
    mta = fields.get("mta", "")
    return ConnectionEvent(ts, ip, mta if type(mta) is str else "", messages, recipients, outcome)


def encode_event(event: ConnectionEvent) -> bytes:
    """Return the event's JSON without line break and without fields that have their default."""
    fields: dict[str, Any] = {"ts": event.ts, "ip": event.ip}
    if event.mta:
        fields["mta"] = event.mta
    if event.messages != 1:
        fields["messages"] = event.messages
    if event.recipients != event.messages:
        fields["recipients"] = event.recipients
    if event.outcome != ACCEPTED:
        fields["outcome"] = event.outcome
    return orjson.dumps(fields)
