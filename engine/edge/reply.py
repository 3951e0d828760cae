"""The reply to a throttled client: ``451 4.7.500 Server busy. Please try again later from [192.0.2.7]. (AS12345678)``.

Status and tag are the decision's; the tag is the reference that a sender's postmaster can quote. The text is this edge's
own, so nothing that came over the network but the client's address, already parsed, gets into an SMTP reply.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from string import Formatter

from engine.edge.decision_row import REPLY_CODE
from engine.edge.lookup import Answer
from topics.networks import network_around, network_text

FIELDS = ("status", "ip", "retry_s", "network", "tag")
FORMATS = {"status": "%d", "ip": "%s", "retry_s": "%d", "network": "%s", "tag": "%08d"}


class Reply:
    """``text``: with the fields {ip}, {network} and {retry_s}; checked where the options are. It becomes a template for ``%``,
    which takes half the time of `str.format`."""

    def __init__(self, text: str) -> None:
        self._names_network = "{network}" in text
        self._said, self._said_fields = _template(f"{text} (AS{{tag}})")
        self._line, self._line_fields = _template(f"{REPLY_CODE} 4.7.{{status}} {text} (AS{{tag}})")

    def status(self, answer: Answer) -> str:
        """The enhanced status, ``4.7.500``."""
        return f"4.7.{answer.status}"

    def said(self, answer: Answer, ip: str) -> str:
        """What stands behind the codes, tag included."""
        return self._said % self._said_fields(self._values(answer, ip))

    def line(self, answer: Answer, ip: str) -> str:
        """The whole reply without line break."""
        return self._line % self._line_fields(self._values(answer, ip))

    def _values(self, answer: Answer, ip: str) -> tuple[int, str, int, str, int]:
        """Of `FIELDS`."""
        network = network_text(network_around(ip, answer.length)) if self._names_network else ""
        return answer.status, ip, answer.retry_s, network, answer.tag


def _template(text: str) -> tuple[str, Callable[[tuple[object, ...]], object]]:
    """For ``%``, and what picks its fields out of all `FIELDS`."""
    parts = list(Formatter().parse(text))
    template = "".join(literal.replace("%", "%%") + FORMATS.get(name or "", "") for literal, name, _, _ in parts)
    return template, itemgetter(*(FIELDS.index(name) for _, name, _, _ in parts if name))
