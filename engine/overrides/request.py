"""Orders as a program asks for them: a JSON object of texts to what it changes, in the words of the commands. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from engine.overrides.changes import Change, InForce, changes, removals
from engine.overrides.parse import end_ms, network_from, place, span_ms
from topics.errors import OperatorError
from topics.overrides import CONNECTOR, EXEMPT, EXEMPT_NAME, RELEASE, Override, Removal

FIELDS = ("action", "network", "until", "owner", "reason", "by")
MOST_LETTERS = 200
GRACE = "2h"
Orders = Callable[[InForce], Iterable[Change]]


def orders_of(asked: object, at_ms: int) -> Orders:
    """What an object of `FIELDS` orders. ``action``: exempt, release or end; ``until``: a span or a moment, of a release a
    span, two hours without one. `OperatorError` says what is wrong."""
    said = _texts(asked)
    try:
        network, is_name = place(said["network"])
        if said["action"] == "end":
            removal = Removal("", at_ms, said["reason"], said["by"])
            return lambda present: removals([network], present, removal)
        return _adding(_override(said, network, is_name=is_name, at_ms=at_ms))
    except ValueError as error:
        raise OperatorError(str(error)) from None


def _texts(asked: object) -> dict[str, str]:
    if not isinstance(asked, Mapping) or not all(isinstance(asked.get(name, ""), str) for name in FIELDS):
        raise OperatorError(f"give an object of texts: {', '.join(FIELDS)}")
    said = {name: str(asked.get(name, "")).strip() for name in FIELDS}
    for name in ("action", "network", "by"):
        if not said[name]:
            raise OperatorError(f"{name} is missing")
    long = next((name for name in FIELDS if len(said[name]) > MOST_LETTERS), "")
    if long:
        raise OperatorError(f"{long} is longer than {MOST_LETTERS} letters: give it in fewer")
    return said


def _override(said: Mapping[str, str], network: str, *, is_name: bool, at_ms: int) -> Override:
    by, reason, owner = said["by"], said["reason"], said["owner"]
    if said["action"] == "exempt":
        if not owner:
            raise ValueError("owner is missing: whose it is, and whom to ask")
        until = end_ms(said["until"], at_ms) if said["until"] else None
        kind = EXEMPT_NAME if is_name else EXEMPT
        return Override(network, kind, CONNECTOR, at_ms, until, owner=owner, reason=reason, by=by)
    if said["action"] == "release":
        return Override(
            network_from(network), EXEMPT, RELEASE, at_ms, at_ms + span_ms(said["until"] or GRACE), reason=reason, by=by
        )
    raise ValueError(f"action {said['action']!r}: give exempt, release or end")


def _adding(override: Override) -> Orders:
    return lambda present: changes([override], present)
