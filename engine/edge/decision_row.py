"""Decisions as the edge keeps them, read from records of the decisions topic: everything that a reply needs, nothing else.

A decision that cannot be turned into a reply is a `BadDecision`: an unknown verdict, code or status, a tag that is not
AS and digits. The caller counts and ignores it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from topics.decisions import OVERRIDE, RELEASE, SHADOW, BadDecision, Decision, Source, decode_decision
from topics.networks import Network, network_of
from topics.plausibility import implausible_decision, implausible_manual_throttle

REPLY_CODE = 451
_STATUS = re.compile(r"4\.7\.([56]\d\d)")
_TAG = re.compile(r"AS([1-9]\d{0,8})")


class ImplausibleDecision(BadDecision):
    """A decision that no engine issues, such as a throttle of half the Internet; the message says why."""


class DecisionRow(NamedTuple):
    """A decision that throttles its network, or would if it weren't in shadow."""

    network: Network
    until_ms: int  # Unix time
    rate_per_ms: float  # of the token bucket, in messages
    burst: float  # size of the token bucket, in messages; at least 1
    status: int  # the last part of 4.7.x
    tag: int  # the digits after AS
    source: Source
    issued_ms: int = 0  # time of the event that led to the decision
    shadow: bool = False  # in shadow: no message is deferred because of it


class Release(NamedTuple):
    """The early end of a throttle."""

    network: Network
    source: Source | None  # None for a tombstone without a release header
    by_operator: bool = False


def row_of(decision: Decision) -> DecisionRow:
    """Return the row of a throttle or shadow decision. Raises `BadDecision` if no reply can be made of it."""
    reply = decision.reply
    status, tag = _STATUS.fullmatch(str(reply.get("status"))), _TAG.fullmatch(str(reply.get("tag")))
    if not decision.is_throttle or reply.get("code") != REPLY_CODE or status is None or tag is None:
        raise BadDecision("not a throttle that a reply can be made of")
    return DecisionRow(
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


def read_decision(
    key: bytes, value: bytes | None, release: bytes | None, now_ms: int | None = None
) -> DecisionRow | Release:
    """Decode a record of the decisions topic; `release` is its header of that name.

    Raises `BadDecision`, and `ImplausibleDecision` for a throttle that no engine issues at `now_ms`, if that is given.
    """
    if value is not None:
        decision = decode_decision(value)
        row = row_of(decision)
        if now_ms is not None:
            _check_plausibility(decision, row, now_ms)
        if key != decision_key(row):
            raise BadDecision("key and network differ")
        return row
    network = _network(key.decode("ascii", errors="replace"))
    if release is None:
        return Release(network, None)
    decision = decode_decision(release)
    if decision.verdict != RELEASE:
        raise BadDecision("a tombstone whose header is not a release")
    return Release(network, decision.source, decision.reason == OVERRIDE)


def decision_key(row: DecisionRow) -> bytes:
    """Return the record key that a row's decision must have: its network as the engine writes it."""
    return str(row.network).encode()


def _check_plausibility(decision: Decision, row: DecisionRow, now_ms: int) -> None:
    if decision.reason != OVERRIDE:
        why = implausible_decision(row.network, row.issued_ms, row.until_ms, now_ms)
    else:
        override = decision.evidence.get("override")
        is_forced = isinstance(override, dict) and override.get("forced") is True
        why = "" if is_forced else implausible_manual_throttle(row.network, row.issued_ms, now_ms)
    if why:
        raise ImplausibleDecision(f"no engine issues this throttle of {row.network}: {why}")


def _network(text: str) -> Network:
    try:
        return network_of(text)
    except ValueError as error:
        raise BadDecision(str(error)) from error
