"""The reply to a throttled client: ``451 4.7.500 Server busy. Please try again later from [192.0.2.7]. (AS12345678)``.

Status and tag are the decision's; the tag is the reference that a sender's postmaster can quote. The text is this edge's
own, so nothing that came over the network but the client's address, already parsed, gets into an SMTP reply.
"""

from __future__ import annotations

from engine.edge.lookup import Answer
from engine.edge.networks import network_around, network_text
from engine.edge.rows import REPLY_CODE


class Reply:
    """``text``: with the fields {ip}, {network} and {retry_s}; checked where the options are. It becomes a template for ``%``,
    which is quicker than `str.format`."""

    def __init__(self, text: str) -> None:
        self._names_network = "{network}" in text
        filled = text.replace("%", "%%").format(ip="%(ip)s", network="%(network)s", retry_s="%(retry_s)d")
        self._said = f"{filled} (AS%(tag)08d)"
        self._line = f"{REPLY_CODE} 4.7.%(status)d {self._said}"

    def status(self, answer: Answer) -> str:
        """The enhanced status, ``4.7.500``."""
        return f"4.7.{answer.status}"

    def said(self, answer: Answer, ip: str) -> str:
        """What stands behind the codes, tag included."""
        return self._said % self._fields(answer, ip)

    def line(self, answer: Answer, ip: str) -> str:
        """The whole reply without line break."""
        return self._line % self._fields(answer, ip)

    def _fields(self, answer: Answer, ip: str) -> dict[str, object]:
        network = network_text(network_around(ip, answer.length)) if self._names_network else ""
        return {"ip": ip, "network": network, "retry_s": answer.retry_s, "tag": answer.tag, "status": answer.status}
