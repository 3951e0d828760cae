"""Operator overrides as they are on the `exemptions` topic. Kinds: exemption, release, manual throttle.

Key: the network as CIDR text, of any prefix length. Value: one JSON object ``{"network", "kind", "action", "created": ms,
"until": ms or absent, "owner", "reason", "by", "v": 1}``. Kind ``exempt`` lets all mail pass: action ``connector`` until
cancelled or until a time, action ``release`` for a grace period. Kind ``throttle``, with ``rate_per_min`` and ``burst``,
throttles the network until a time. ``relay`` names the announced relay that the network was given by. A network has one
override; a later one replaces it. A null value ends it; its header ``removal`` has
``{"network", "created", "by", "reason", "v"}``.

A name suffix has key ``client:.example.com`` (the address's verified host name) or ``helo:.example.com``, field ``name``
instead of ``network``, and kind ``exempt-name``. Only edges apply it, because events carry no names.

Required: network, kind, until and rate of a throttle. Other kinds and unknown fields are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import orjson

from topics.closed_json import is_amount, is_time, parse_object, printable
from topics.decisions import MAX_AMOUNT
from topics.networks import canonical_network

EXEMPT, THROTTLE, EXEMPT_NAME = "exempt", "throttle", "exempt-name"
CONNECTOR, RELEASE, THROTTLED = "connector", "release", "throttle"
REMOVAL_HEADER = "removal"
REMOVE = "remove"
OVERRIDE_VERSION = 1
CLIENT, HELO = "client:", "helo:"
_TEXTS = ("action", "owner", "reason", "by", "relay")
_SUFFIX = re.compile(r"\.?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})+")


class BadOverride(ValueError):
    """A record on the exemptions topic that isn't an override; the message says why."""


@dataclass(frozen=True, slots=True)
class Override:
    """An exemption, release or manual throttle of a network or a name suffix."""

    network: str  # CIDR text, or `CLIENT` or `HELO` and a suffix
    kind: str  # "exempt", "throttle" or "exempt-name"
    action: str  # "connector", "release" or "throttle": what the operator ordered
    created: int  # ms since epoch
    until: int | None  # ms since epoch, None until cancelled
    owner: str = ""  # of an exemption
    reason: str = ""
    by: str = ""  # who ordered it
    relay: str = ""  # announced relay that the network belongs to
    rate_per_min: float = 0.0
    burst: float = 0.0  # messages
    forced: bool = False  # its author confirmed a network that is wider than the bound on overrides
    offset: int = -1  # of its record, -1 if unknown

    def lasts(self, at_ms: int) -> bool:
        """Return True if it hasn't expired at a time."""
        return self.until is None or self.until > at_ms


@dataclass(frozen=True, slots=True)
class Removal:
    """The end of a network's override before it expires."""

    network: str
    created: int  # ms since epoch
    reason: str = ""
    by: str = ""
    offset: int = -1  # of its record, -1 if unknown


OverrideRecord = Override | Removal


def is_name(network: str) -> bool:
    """Return True if the network of an override is a name suffix."""
    return network.startswith((CLIENT, HELO))


def canonical_name(text: str) -> str:
    """Return the one text of a name suffix: `CLIENT` or `HELO`, a dot, lower case. Raise ValueError for other text."""
    which = next((prefix for prefix in (CLIENT, HELO) if text.startswith(prefix)), None)
    suffix = text.removeprefix(which or "").lower().removesuffix(".")
    if which is None or len(suffix) > 253 or not _SUFFIX.fullmatch(suffix):
        raise ValueError(f"{text!r} is no suffix of a name: give {CLIENT}.example.com or {HELO}.example.com")
    return f"{which}.{suffix.removeprefix('.')}"


def encode_override(override: Override) -> bytes:
    """Return the override's JSON, without fields that have their default."""
    named = {"name" if override.kind == EXEMPT_NAME else "network": override.network}
    rest = {
        known.name: getattr(override, known.name)
        for known in fields(Override)
        if known.name not in ("network", "offset") and getattr(override, known.name) not in (None, known.default)
    }
    return orjson.dumps({**named, **rest, "v": OVERRIDE_VERSION})


def encode_removal(removal: Removal) -> bytes:
    """Return the removal's JSON, for the header of a null value."""
    given = {name: value for name, value in asdict(removal).items() if name != "offset" and value != ""}
    return orjson.dumps({**given, "v": OVERRIDE_VERSION})


def decode_override(value: bytes) -> Override | None:
    """Read an override's JSON; None for an unknown kind. Raise `BadOverride` if a field is missing or wrong."""
    given = _parse_object(value)
    kind = given.get("kind")
    if kind not in (EXEMPT, THROTTLE, EXEMPT_NAME):
        if type(kind) is str:
            return None
        raise BadOverride("not an override: kind missing or no text")
    until, rate, burst = given.get("until"), given.get("rate_per_min", 0.0), given.get("burst", 0.0)
    if until is not None and not is_time(until):
        raise BadOverride("not an override: until is a time in ms, or absent")
    if kind == THROTTLE and (until is None or not (is_amount(rate, MAX_AMOUNT) and is_amount(burst, MAX_AMOUNT))):
        raise BadOverride("not an override: a throttle has until, rate_per_min and burst")
    texts = _texts(given, _TEXTS)
    action = texts.pop("action", THROTTLED if kind == THROTTLE else CONNECTOR)
    network, amounts = _network(given, kind), (float(rate), float(burst)) if kind == THROTTLE else (0.0, 0.0)
    return Override(
        network,
        kind,
        action,
        _created(given),
        until,
        **texts,
        rate_per_min=amounts[0],
        burst=amounts[1],
        forced=given.get("forced") is True,
    )


def decode_record(key: bytes, value: bytes | None, removal: bytes | None, offset: int = -1) -> OverrideRecord | None:
    """Read a record of the topic; ``removal`` is the header of that name. Return None for an unknown kind.

    Raise `BadOverride` if it is no override.
    """
    key_network = key.decode("ascii", errors="replace")
    if value is None:
        given = _parse_object(removal) if removal is not None else {}
        texts = _texts(given, ("reason", "by"))
        return Removal(_canonical(key_network), _created(given), **texts, offset=offset)
    override = decode_override(value)
    if override is not None and _canonical(key_network) != override.network:
        raise BadOverride("key and network differ")
    return override and replace(override, offset=offset)


def encode_line(record: OverrideRecord) -> bytes:
    """Return a line of NDJSON without line break: the record's JSON, its offset, and for a removal the action "remove"."""
    if isinstance(record, Removal):
        return orjson.dumps({"action": REMOVE, **orjson.loads(encode_removal(record)), "offset": record.offset})
    return orjson.dumps({**orjson.loads(encode_override(record)), "offset": record.offset})


def decode_line(line: bytes) -> OverrideRecord | None:
    """Read a line of `encode_line`; None for an unknown kind. Raise `BadOverride` if it is none."""
    given = _parse_object(line)
    offset = given.get("offset", -1)
    if type(offset) is not int:
        raise BadOverride("not an override: offset is no integer")
    if given.get("action") == REMOVE:
        return decode_record(str(given.get("network")).encode(), None, line, offset)
    override = decode_override(line)
    return override and replace(override, offset=offset)


def _parse_object(value: bytes) -> dict[str, Any]:
    try:
        return parse_object(value)
    except ValueError as error:
        raise BadOverride(f"not an override: {error}") from error


def _texts(given: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the texts among these fields, made printable; a field of another type counts as missing."""
    return {name: printable(given[name]) for name in names if type(given.get(name)) is str}


def _network(given: dict[str, Any], kind: str) -> str:
    text = given.get("name" if kind == EXEMPT_NAME else "network")
    if type(text) is not str:
        raise BadOverride("not an override: network or name missing")
    if (kind == EXEMPT_NAME) != is_name(text):
        raise BadOverride("not an override: a name instead of a network, or a network instead of a name")
    return _canonical(text)


def _canonical(text: str) -> str:
    try:
        return canonical_name(text) if is_name(text) else canonical_network(text)
    except ValueError as error:
        raise BadOverride(str(error)) from error


def _created(given: dict[str, Any]) -> int:
    created = given.get("created", 0)
    if not is_time(created):
        raise BadOverride("not an override: created is no time in ms")
    return int(created)
