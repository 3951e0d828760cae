"""An override, as it stands on the `exemptions` topic: what an operator has said of a network, who, and why.

Key: the network as CIDR text of any prefix length. Value: one JSON object ``{"network", "kind", "action", "created": ms,
"until": ms or absent, "owner", "reason", "by", "v": 1}``. Kind ``exempt`` (action ``connector``, for good or until a time, or
``release``, for a grace) lets everything pass; kind ``throttle`` (with ``rate_per_min`` and ``burst``) holds the network to a
rate until a time. ``relay``: the announced relay's name that it was given by. One network has one override: a later one takes
its place. A null value ends it, and its header ``removal`` has ``{"network", "created", "by", "reason", "v"}``.

A name's suffix has the key ``client:.example.com`` (the name of the address, looked up both ways) or ``helo:.example.com``,
stands as ``name`` where others have ``network``, and its kind is ``exempt-name``: for edges alone, as events carry no names.

Only what says what to do (network, kind, until, rate) is required; other kinds and unknown fields are for later versions.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from ipaddress import IPv6Network, ip_network
from typing import Any

import orjson

from topics.events import LAST_TS_MS

EXEMPT, THROTTLE, EXEMPT_NAME = "exempt", "throttle", "exempt-name"
CONNECTOR, RELEASE, THROTTLED = "connector", "release", "throttle"
REMOVAL_HEADER = "removal"
REMOVE = "remove"
OVERRIDE_VERSION = 1
CLIENT, HELO = "client:", "helo:"
_TEXTS = ("action", "owner", "reason", "by", "relay")
_SUFFIX = re.compile(r"\.?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})+")
_MAPPED = IPv6Network("::ffff:0:0/96")


class BadExemption(ValueError):
    """A record on the exemptions topic that isn't an override; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Override:
    """``network``: CIDR text, or `CLIENT` or `HELO` and a suffix; ``kind`` "exempt", "throttle" or "exempt-name"; ``action``:
    "connector", "release" or "throttle", what was asked for; ``created``, ``until``: ms since epoch, None for good;
    ``offset``: of its record, -1 if unknown."""

    network: str
    kind: str
    action: str
    created: int
    until: int | None
    owner: str = ""
    reason: str = ""
    by: str = ""
    relay: str = ""
    rate_per_min: float = 0.0
    burst: float = 0.0
    offset: int = -1

    def lasts(self, at_ms: int) -> bool:
        """Whether its end hasn't come."""
        return self.until is None or self.until > at_ms


@dataclass(frozen=True, slots=True)
class Removal:
    """The end of a network's override before its time. ``created``: when it was said, ms since epoch."""

    network: str
    created: int
    reason: str = ""
    by: str = ""
    offset: int = -1


Said = Override | Removal


def canonical(text: str) -> str:
    """The network (an address is one too) as CIDR text in the one way that it is written here; ``::ffff:a.b.c.d`` is the IPv4.
    ValueError when it is none or has bits set below its prefix."""
    found = ip_network(text)
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        return str(ip_network((int(found[0]) & 0xFFFFFFFF, found.prefixlen - 96)))
    return str(found)


def canonical_name(text: str) -> str:
    """A name's suffix as it is written here: `CLIENT` or `HELO`, a dot, small letters. ValueError when it is none."""
    which = next((prefix for prefix in (CLIENT, HELO) if text.startswith(prefix)), None)
    suffix = text.removeprefix(which or "").lower().removesuffix(".")
    if which is None or len(suffix) > 253 or not _SUFFIX.fullmatch(suffix):
        raise ValueError(f"{text!r} is no suffix of a name: give {CLIENT}.example.com or {HELO}.example.com")
    return f"{which}.{suffix.removeprefix('.')}"


def encode_override(override: Override) -> bytes:
    """The override's JSON, what is a default left out."""
    named = {"name" if override.kind == EXEMPT_NAME else "network": override.network}
    rest = {
        known.name: getattr(override, known.name)
        for known in fields(Override)
        if known.name not in ("network", "offset") and getattr(override, known.name) not in (None, known.default)
    }
    return orjson.dumps({**named, **rest, "v": OVERRIDE_VERSION})


def encode_removal(removal: Removal) -> bytes:
    """The removal's JSON, for the header."""
    said = {name: value for name, value in asdict(removal).items() if name != "offset" and value != ""}
    return orjson.dumps({**said, "v": OVERRIDE_VERSION})


def decode_override(value: bytes) -> Override | None:
    """Read an override's JSON; None for a kind that is none of ours; `BadExemption` when a field is missing or wrong."""
    said = _object(value)
    kind = said.get("kind")
    if kind not in (EXEMPT, THROTTLE, EXEMPT_NAME):
        if type(kind) is str:
            return None
        raise BadExemption("not an override: kind missing or no text")
    until, rate, burst = said.get("until"), said.get("rate_per_min", 0.0), said.get("burst", 0.0)
    if until is not None and not _is_moment(until):
        raise BadExemption("not an override: until is a time in ms, or absent")
    if kind == THROTTLE and (until is None or not (_is_amount(rate) and _is_amount(burst))):
        raise BadExemption("not an override: a throttle has until, rate_per_min and burst")
    texts = {name: said[name] for name in _TEXTS if type(said.get(name)) is str}
    action = texts.pop("action", THROTTLED if kind == THROTTLE else CONNECTOR)
    network, amounts = _place(said, kind), (float(rate), float(burst)) if kind == THROTTLE else (0.0, 0.0)
    return Override(network, kind, action, _created(said), until, **texts, rate_per_min=amounts[0], burst=amounts[1])


def decode_record(key: bytes, value: bytes | None, removal: bytes | None, offset: int = -1) -> Said | None:
    """A record of the exemptions topic; ``removal``: the header of that name. None for a kind that is none of ours;
    `BadExemption` when it is no override."""
    place = key.decode("ascii", errors="replace")
    if value is None:
        said = _object(removal) if removal is not None else {}
        texts = {name: said[name] for name in ("reason", "by") if type(said.get(name)) is str}
        return Removal(_canonical(place), _created(said), **texts, offset=offset)
    override = decode_override(value)
    if override is not None and _canonical(place) != override.network:
        raise BadExemption("key and network differ")
    return override and replace(override, offset=offset)


def encode_line(said: Said) -> bytes:
    """As a line of NDJSON: the record's JSON, its offset, and the action "remove" for a removal."""
    if isinstance(said, Removal):
        return orjson.dumps({"action": REMOVE, **orjson.loads(encode_removal(said)), "offset": said.offset})
    return orjson.dumps({**orjson.loads(encode_override(said)), "offset": said.offset})


def decode_line(line: bytes) -> Said | None:
    """The way back; None for a kind that is none of ours; `BadExemption`."""
    fields_ = _object(line)
    offset = fields_.get("offset", -1)
    if type(offset) is not int:
        raise BadExemption("not an override: offset is no integer")
    if fields_.get("action") == REMOVE:
        return decode_record(str(fields_.get("network")).encode(), None, line, offset)
    override = decode_override(line)
    return override and replace(override, offset=offset)


def _object(value: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise BadExemption(f"not an override: {error}") from error
    if type(said) is not dict:
        raise BadExemption("not an override: no object")
    return said


def _place(said: dict[str, Any], kind: str) -> str:
    text = said.get("name" if kind == EXEMPT_NAME else "network")
    if type(text) is not str:
        raise BadExemption("not an override: network or name missing")
    if (kind == EXEMPT_NAME) != text.startswith((CLIENT, HELO)):
        raise BadExemption("not an override: a name where a network belongs, or the other way round")
    return _canonical(text)


def _canonical(text: str) -> str:
    try:
        return canonical_name(text) if text.startswith((CLIENT, HELO)) else canonical(text)
    except ValueError as error:
        raise BadExemption(str(error)) from error


def _created(said: dict[str, Any]) -> int:
    created = said.get("created", 0)
    if not _is_moment(created):
        raise BadExemption("not an override: created is no time in ms")
    return int(created)


def _is_moment(value: object) -> bool:
    return type(value) is int and 0 <= value <= LAST_TS_MS


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e9
