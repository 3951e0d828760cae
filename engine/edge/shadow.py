"""The edge's shadow: deferrals that are only logged and counted, for all decisions, for some reasons or in some networks.

A new rule, or a partner's network, can so be observed on real mail before it is enforced. A decision's reason is known by
the first digit of its tag, so a row needs no further field for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from engine.edge.lookup import LookupResult
from topics.decisions import REASON_DIGITS

REASONS = {digit: reason for reason, digit in REASON_DIGITS.items()}
SERIAL = 10_000_000  # tags of one reason


class EdgeShadow:
    """The deferrals that this edge only logs: all if `everything`, else by the decision's reason or the client's network."""

    def __init__(self, *, everything: bool = False, reasons: Iterable[str] = (), networks: Iterable[str] = ()) -> None:
        self.everything = everything
        self.reasons = sorted(reasons)
        self.networks = [ip_network(network) for network in networks]
        self._digits = {REASON_DIGITS[reason] for reason in self.reasons}

    def covers(self, result: LookupResult, ip: str) -> bool:
        """Return True if a result that defers is in shadow, so the message passes."""
        if self.everything or (self._digits and result.tag // SERIAL in self._digits):
            return True
        return bool(self.networks) and any(ip_address(ip) in network for network in self.networks)

    def __str__(self) -> str:
        """Return the shadow as text for the log; empty if there is none."""
        if self.everything:
            return "everything"
        return ", ".join([*self.reasons, *map(str, self.networks)])


def reason_of(result: LookupResult) -> str:
    """Return the reason of the decision behind a result; "other" if a later version introduced it."""
    return REASONS.get(result.tag // SERIAL, "other")
