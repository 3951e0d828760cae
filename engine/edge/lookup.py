"""The one look-up behind every protocol: is the sender throttled, and may this message still pass?

It is a function of address, table and time; consuming a token is its only effect. Every doubt is "no opinion": no live
decision, an exemption, an unreadable address, decisions too old to be trusted.

If the longest matching decision is in shadow, the longest one outside shadow decides. If that one doesn't defer, the
result `SHADOW` reports that the one in shadow would have.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from engine.edge.table import NO_SLOT, DecisionTable
from topics.networks import address_of

UNKNOWN, EXEMPT, WITHIN, STALE, UNREADABLE, EXCESS = "unknown", "exempt", "within", "stale", "unreadable", "excess"
SHADOW = "shadow"  # a decision in shadow would defer


class LookupResult(NamedTuple):
    """The answer for one message. `EXCESS` defers it; every other `why` is no opinion."""

    why: str
    length: int = -1  # of the decision's prefix in bits; -1 if no decision was found
    status: int = 0  # the last part of 4.7.x
    tag: int = 0  # the digits after AS
    retry_s: int = 0  # until the next message may pass
    until_ms: int = 0  # end of the decision, Unix time


NO_OPINION = {why: LookupResult(why) for why in (UNKNOWN, EXEMPT, STALE, UNREADABLE)}


def lookup(ip: str, table: DecisionTable, now_ms: int, *, consume: bool = True) -> LookupResult:
    """Return the answer for a message from `ip` at a Unix time in ms.

    Consumes a token of each decision that is evaluated, unless `consume` is False.
    """
    try:
        bits, number = address_of(ip)
    except ValueError:
        return NO_OPINION[UNREADABLE]
    slot = table.find(bits, number, now_ms)
    if slot == NO_SLOT:
        return NO_OPINION[UNKNOWN]
    if now_ms > table.trusted_until_ms:
        return NO_OPINION[STALE]
    if table.is_exempt(bits, number, now_ms):
        return NO_OPINION[EXEMPT]
    if not table.columns.shadow[slot]:
        return _evaluate(table, slot, now_ms, consume=consume)
    shadowed = _evaluate(table, slot, now_ms, consume=consume)
    slot = table.find(bits, number, now_ms, enforced=True)
    if slot != NO_SLOT:
        enforced = _evaluate(table, slot, now_ms, consume=consume)
        if enforced.why == EXCESS or shadowed.why == WITHIN:
            return enforced
    return shadowed._replace(why=SHADOW) if shadowed.why == EXCESS else shadowed


def _evaluate(table: DecisionTable, slot: int, now_ms: int, *, consume: bool) -> LookupResult:
    """Return the decision's answer as if it were enforced."""
    wait_ms = table.take_token(slot, now_ms, consume=consume)
    columns = table.columns
    return LookupResult(
        EXCESS if wait_ms else WITHIN,
        columns.length[slot],
        columns.status[slot],
        columns.tag[slot],
        ceil(wait_ms / 1000),
        columns.until_ms[slot],
    )
