"""The reply to a throttled client: ``451 4.7.500 Server busy. Please try again later from [192.0.2.7]. (AS12345678)``.

Status and tag are the decision's; the tag is the reference that a sender's postmaster can quote. The text is this edge's
own, so nothing that came over the network but the client's address, already parsed, gets into an SMTP reply.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.edge.lookup import Answer
from engine.edge.networks import network_around, network_text
from engine.edge.rows import REPLY_CODE


@dataclass(frozen=True, slots=True)
class Reply:
    """``text``: with the fields {ip}, {network} and {retry_s}; checked where the options are."""

    text: str

    def status(self, answer: Answer) -> str:
        """The enhanced status, ``4.7.500``."""
        return f"4.7.{answer.status}"

    def said(self, answer: Answer, ip: str) -> str:
        """What stands behind the codes, tag included."""
        network = network_text(network_around(ip, answer.length)) if "{network}" in self.text else ""
        text = self.text.format(ip=ip, network=network, retry_s=answer.retry_s)
        return f"{text} (AS{answer.tag:08d})"

    def line(self, answer: Answer, ip: str) -> str:
        """The whole reply without line break."""
        return f"{REPLY_CODE} {self.status(answer)} {self.said(answer, ip)}"
