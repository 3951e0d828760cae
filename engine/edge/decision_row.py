"""What the edge keeps of a decision, and how it reads one: everything a reply needs, nothing else.

A decision that could not be answered with as it stands (an unknown verdict, code or status, a tag that is not AS and digits,
a rate that is no number) is a `BadDecision`: counted and ignored, because no reply may be made of doubts.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from topics.decisions import OVERRIDE, RELEASE, SHADOW, BadDecision, Decision, Source, decode_decision
from topics.networks import Network, network_of, network_text

REPLY_CODE = 451
LAST_MS = 253_402_300_799_999
LAST_OFFSET = (1 << 63) - 1
_STATUS = re.compile(r"4\.7\.([56]\d\d)")
_TAG = re.compile(r"AS([1-9]\d{0,8})")


class Row(NamedTuple):
    """One decision. ``status``: the last part of 4.7.x; ``tag``: the number behind AS; ``until_ms``: Unix time;
    ``rate_per_ms``, ``burst``: the token bucket, in messages; ``issued_ms``: event time of what led to it; ``shadow``: nobody
    is deferred by it."""

    network: Network
    until_ms: int
    rate_per_ms: float
    burst: float
    status: int
    tag: int
    source: Source
    issued_ms: int = 0
    shadow: bool = False


class Release(NamedTuple):
    """The end of a throttle. ``source`` is None if nobody said which event it came from; ``ordered``: by an operator."""

    network: Network
    source: Source | None
    ordered: bool = False


def row_of(decision: Decision) -> Row:
    """The row of a decision that throttles, or would. `BadDecision` if it can't be answered with."""
    reply = decision.reply
    status, tag = _STATUS.fullmatch(str(reply.get("status"))), _TAG.fullmatch(str(reply.get("tag")))
    numbers = (decision.rate_per_min, decision.burst)
    if not decision.holds or reply.get("code") != REPLY_CODE or status is None or tag is None:
        raise BadDecision("no throttle that a reply can be made of")
    if not all(math.isfinite(number) and 0 <= number <= 1e9 for number in numbers):
        raise BadDecision("rate or burst out of range")
    if not 0 <= decision.until <= LAST_MS:
        raise BadDecision("until out of range")
    _check_source(decision.source)
    return Row(
        _network(decision.network),
        decision.until,
        decision.rate_per_min / 60_000,
        max(1.0, decision.burst),
        int(status[1]),
        int(tag[1]),
        decision.source,
        decision.issued,
        decision.verdict == SHADOW,
    )


def read_decision(key: bytes, value: bytes | None, release: bytes | None) -> Row | Release:
    """A record of the decisions topic. ``release``: the header of that name, if there is one. `BadDecision` if it is none."""
    if value is not None:
        row = row_of(_decoded(value))
        if key != decision_key(row):
            raise BadDecision("key and network differ")
        return row
    network = _network(key.decode("ascii", errors="replace"))
    if release is None:
        return Release(network, None)
    decision = _decoded(release)
    if decision.verdict != RELEASE:
        raise BadDecision("a tombstone whose header is no release")
    _check_source(decision.source)
    return Release(network, decision.source, decision.reason == OVERRIDE)


def decision_key(row: Row) -> bytes:
    """The record key that a row's decision must have: its network as the engine writes it."""
    return network_text(row.network).encode()


def _decoded(value: bytes) -> Decision:
    try:
        return decode_decision(value)
    except (OverflowError, AttributeError) as error:  # an infinite number; something else than an object
        raise BadDecision(str(error)) from error


def _check_source(source: Source) -> None:
    if not (0 <= source.offset <= LAST_OFFSET and 0 <= source.partition <= LAST_OFFSET):
        raise BadDecision("source out of range")


def _network(text: str) -> Network:
    try:
        return network_of(text)
    except ValueError as error:
        raise BadDecision(str(error)) from error
