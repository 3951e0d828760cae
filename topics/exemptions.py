"""An exemption, as it stands on the `exemptions` topic: key, the network as CIDR text of any prefix length; value, one JSON
object ``{"network", "kind": "exempt", "until": ms or absent, "v": 1}``. A null value takes it back.

Other kinds are for later versions: a reader that doesn't know one leaves it alone. Unknown fields are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

EXEMPT = "exempt"


class BadExemption(ValueError):
    """A record on the exemptions topic that isn't an exemption; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Exemption:
    """``network``: CIDR text; ``until``: ms since epoch, None for good."""

    network: str
    until: int | None


def decode_exemption(value: bytes) -> Exemption | None:
    """Read an exemption's JSON; None for a kind that is none of ours; `BadExemption` when a field is missing or wrong."""
    try:
        fields = orjson.loads(value)
        kind, network, until = fields["kind"], fields["network"], fields.get("until")
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise BadExemption(f"not an exemption: {type(error).__name__}: {error}") from error
    if kind != EXEMPT:
        return None
    if type(network) is not str or not (until is None or type(until) is int):
        raise BadExemption("not an exemption: network is a text, until ms or absent")
    return Exemption(network, until)
