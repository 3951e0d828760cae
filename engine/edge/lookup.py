"""The one look-up that every protocol asks: who is throttled, and may this message still pass?

A function of address, table and time; the token it takes is all that it changes. Every doubt is "no opinion": no live
decision, an exemption, an address that can't be read, decisions too old to be trusted.

Where the longest decision is in shadow, the longest that isn't answers; if nothing defers then, `SHADOW` tells that the one in
shadow would have.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from engine.edge.table import NOWHERE, Table
from topics.networks import address_of

UNKNOWN, EXEMPT, WITHIN, STALE, UNREADABLE, EXCESS = "unknown", "exempt", "within", "stale", "unreadable", "excess"
SHADOW = "shadow"  # what would defer is in shadow


class Answer(NamedTuple):
    """``why``: `EXCESS` defers, all others are no opinion. The rest, where a decision was found: ``length``: of its prefix,
    in bits, -1 if none was; ``status``: the last part of 4.7.x; ``tag``: the number behind AS; ``retry_s``: when the next
    message may pass; ``until_ms``: its end."""

    why: str
    length: int = -1
    status: int = 0
    tag: int = 0
    retry_s: int = 0
    until_ms: int = 0


NO_OPINION = {why: Answer(why) for why in (UNKNOWN, EXEMPT, STALE, UNREADABLE)}


def lookup(ip: str, table: Table, now_ms: int, *, keep: bool = False) -> Answer:
    """The answer at a time (Unix, ms) to a message that is to pass now, which takes a token; ``keep``: somebody only looks."""
    try:
        bits, number = address_of(ip)
    except ValueError:
        return NO_OPINION[UNREADABLE]
    place = table.find(bits, number, now_ms)
    if place == NOWHERE:
        return NO_OPINION[UNKNOWN]
    if now_ms > table.trusted_until_ms:
        return NO_OPINION[STALE]
    if table.is_exempt(bits, number, now_ms):
        return NO_OPINION[EXEMPT]
    if not table.columns.shadow[place]:
        return _answer(table, place, now_ms, keep=keep)
    would = _answer(table, place, now_ms, keep=keep)
    place = table.find(bits, number, now_ms, enforced=True)
    if place != NOWHERE:
        answer = _answer(table, place, now_ms, keep=keep)
        if answer.why == EXCESS or would.why == WITHIN:
            return answer
    return would._replace(why=SHADOW) if would.why == EXCESS else would


def _answer(table: Table, place: int, now_ms: int, *, keep: bool) -> Answer:
    """What the decision at a place says, as if it were enforced."""
    wait_ms = table.take(place, now_ms, keep=keep)
    columns = table.columns
    return Answer(
        EXCESS if wait_ms else WITHIN,
        columns.length[place],
        columns.status[place],
        columns.tag[place],
        ceil(wait_ms / 1000),
        columns.until_ms[place],
    )
