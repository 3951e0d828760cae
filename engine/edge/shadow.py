"""What an edge only pretends to defer: everything, what was decided for some reasons, or what lies in some networks.

A new rule, or a partner's network, can so be watched at real mail before it is let loose. Reasons are known by the first digit
of a decision's tag, so nothing more has to be kept for each of a million decisions.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from engine.edge.lookup import Answer
from topics.decisions import REASON_DIGITS

REASONS = {digit: reason for reason, digit in REASON_DIGITS.items()}
SERIAL = 10_000_000  # numbers behind a tag's digit


class Shadow:
    """``everything``: nobody is deferred; ``reasons``: of decisions; ``networks``: CIDR."""

    def __init__(self, *, everything: bool = False, reasons: Iterable[str] = (), networks: Iterable[str] = ()) -> None:
        self.everything = everything
        self.reasons = sorted(reasons)
        self.networks = [ip_network(network) for network in networks]
        self._digits = {REASON_DIGITS[reason] for reason in self.reasons}

    def holds(self, answer: Answer, ip: str) -> bool:
        """Whether an answer that defers is only told, and the message passes."""
        if self.everything or (self._digits and answer.tag // SERIAL in self._digits):
            return True
        return bool(self.networks) and any(ip_address(ip) in network for network in self.networks)

    def __str__(self) -> str:
        """In words, for the log; empty if there is no shadow."""
        if self.everything:
            return "everything"
        return ", ".join([*self.reasons, *map(str, self.networks)])


def reason_of(answer: Answer) -> str:
    """Why the decision behind an answer was made; "other" for one of a later version."""
    return REASONS.get(answer.tag // SERIAL, "other")
