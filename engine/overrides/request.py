"""Parse a program's order, a JSON object of texts with the words of the commands, into a plan. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from engine.decisions.override_index import OverrideIndex
from engine.overrides.changes import OverrideChange, plan_overrides, plan_removals
from engine.overrides.parse import parse_end_ms, parse_network, parse_span_ms, parse_target
from topics.errors import OperatorError
from topics.overrides import CONNECTOR, EXEMPT, EXEMPT_NAME, RELEASE, Override, Removal, is_name

FIELDS = ("action", "network", "until", "owner", "reason", "by")
MAX_LETTERS = 200  # of a field
GRACE = "2h"
Plan = Callable[[OverrideIndex], Iterable[OverrideChange]]  # returns its changes and adds their records to the index


def plan_of(request: object, at_ms: int) -> Plan:
    """Return the plan of an object of `FIELDS`. Raise `OperatorError` if a field is missing or wrong.

    ``action`` is exempt, release or end. ``until`` is a time span or a time; of a release it is a span, by default two
    hours.
    """
    texts = _texts(request)
    try:
        network = parse_target(texts["network"])
        if texts["action"] == "end":
            removal = Removal("", at_ms, texts["reason"], texts["by"])
            return lambda index: plan_removals([network], index, removal)
        override = _override(texts, network, at_ms)
        return lambda index: plan_overrides([override], index)
    except ValueError as error:
        raise OperatorError(str(error)) from None


def _texts(request: object) -> dict[str, str]:
    if not isinstance(request, Mapping) or not all(isinstance(request.get(name, ""), str) for name in FIELDS):
        raise OperatorError(f"give an object of texts: {', '.join(FIELDS)}")
    texts = {name: str(request.get(name, "")).strip() for name in FIELDS}
    for name in ("action", "network", "by"):
        if not texts[name]:
            raise OperatorError(f"{name} is missing")
    long = next((name for name in FIELDS if len(texts[name]) > MAX_LETTERS), "")
    if long:
        raise OperatorError(f"{long} is longer than {MAX_LETTERS} letters: shorten it")
    return texts


def _override(texts: Mapping[str, str], network: str, at_ms: int) -> Override:
    by, reason, owner = texts["by"], texts["reason"], texts["owner"]
    if texts["action"] == "exempt":
        if not owner:
            raise ValueError("owner is missing: give owner and contact")
        until = parse_end_ms(texts["until"], at_ms) if texts["until"] else None
        kind = EXEMPT_NAME if is_name(network) else EXEMPT
        return Override(network, kind, CONNECTOR, at_ms, until, owner=owner, reason=reason, by=by)
    if texts["action"] == "release":
        until = at_ms + parse_span_ms(texts["until"] or GRACE)
        return Override(parse_network(network), EXEMPT, RELEASE, at_ms, until, reason=reason, by=by)
    raise ValueError(f"action {texts['action']!r}: give exempt, release or end")
