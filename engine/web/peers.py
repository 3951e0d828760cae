"""The workers of a site: which partitions each owns, and the address of its page. Pure.

A worker announces itself in its group with the address that Faust's assignor hands to all workers with every assignment: its
page's address and, as fragment, its name ``HOST PID`` and a random mark. With static membership the name is ``HOST INSTANCE``
without a mark, since the others get no new assignment when such a worker restarts. A worker without a page announces
`NO_PAGE`. So every worker knows every owner as soon as it owns a partition; nothing is stored, read or expires.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

NO_PAGE = "http://nowhere.invalid"
LOCALHOST = "localhost"
Distribution = Mapping[str, Mapping[str, Sequence[int]]]  # partitions by worker address and topic


class Peer(NamedTuple):
    """A worker, as the group knows it."""

    name: str
    mark: str  # differs for two processes of one name
    page: str  # address of its page, "" without one
    partitions: tuple[int, ...] = ()  # owned

    @property
    def host(self) -> str:
        """The name of its machine."""
        return self.name.partition(" ")[0]

    @property
    def address(self) -> str:
        """The address that it announces."""
        return f"{self.page or NO_PAGE}/#{quote(self.name, safe='')}/{self.mark}"

    def is_local(self) -> bool:
        """Return True if only its own machine reaches its page."""
        return _rank(urlsplit(self.page).hostname or "") == LOOPBACK

    def is_same(self, other: Peer) -> bool:
        """Return True if ``other`` is the same process, even with another page."""
        return (self.name, self.mark) == (other.name, other.mark)


def parse_peers(distribution: Distribution, topic: str) -> Iterator[Peer]:
    """Yield the workers of an assignment with their partitions of ``topic``."""
    for address, topics in distribution.items():
        base, _, fragment = address.partition("#")
        name, _, mark = fragment.partition("/")
        page = base.rstrip("/") if fragment else ""
        own = unquote(name) or urlsplit(address).hostname or address
        yield Peer(own, mark, "" if page == NO_PAGE else page, tuple(sorted(topics.get(topic, ()))))


REACHABLE, ANY, LOOPBACK = range(3)


def page_address(advertised: str, listening: Sequence[tuple[str, int]], host: str) -> str:
    """Return the address at which other workers reach a page that listens on these hosts and ports; "" if it listens nowhere.

    In this order: ``advertised``, the first address that others reach, ``host`` (the machine's name) if it listens on all
    addresses, a loopback address.
    """
    if not listening or advertised:
        return advertised.rstrip("/") if listening else ""
    listen_host, port = min(listening, key=lambda address: _rank(address[0]))
    name = host if _rank(listen_host) == ANY else listen_host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _rank(host: str) -> int:
    try:
        address = ip_address(host)
    except ValueError:
        return LOOPBACK if host == LOCALHOST else REACHABLE
    return LOOPBACK if address.is_loopback else ANY if address.is_unspecified else REACHABLE


def partitions_text(partitions: Sequence[int]) -> str:
    """Return partitions in words: "partition 3", "partitions 0 to 3 and 7"."""
    spans: list[list[int]] = []
    for number in sorted(partitions):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    parts = [str(first) if first == last else f"{first} to {last}" for first, last in spans]
    words = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"partition{'s' if len(partitions) > 1 else ''} {words}"
