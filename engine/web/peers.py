"""The workers of a site to one another: who has which partitions, and where its page is. Pure.

A worker announces itself in its group, as the address that Faust's assignor hands to all workers with every assignment: its
page's place and, as the fragment, its name, ``HOST PID``, and a mark that no other has. (With static membership the name is
``HOST INSTANCE``, and there is no mark: nobody is told anew when such a one restarts.) One without a page announces a place
that is none. So whoever has a partition is known as soon as it has it, and nothing has to be kept, read or to run out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

NOWHERE = "http://nowhere.invalid"
LOCAL = "localhost"
Distribution = Mapping[str, Mapping[str, Sequence[int]]]


class Peer(NamedTuple):
    """A worker. ``mark``: tells it from another of its name; ``page``: where its page is reached, empty if it has none;
    ``partitions``: those it has."""

    name: str
    mark: str
    page: str
    partitions: tuple[int, ...] = ()

    @property
    def host(self) -> str:
        """The machine that it says it is on."""
        return self.name.partition(" ")[0]

    @property
    def address(self) -> str:
        """What it announces."""
        return f"{self.page or NOWHERE}/#{quote(self.name, safe='')}/{self.mark}"

    def is_local(self) -> bool:
        """Whether its page is for its own machine alone."""
        return _rank(urlsplit(self.page).hostname or "") == LOOPBACK

    def is_same(self, other: Peer) -> bool:
        """Whether it is this one, wherever its page is."""
        return (self.name, self.mark) == (other.name, other.mark)


def peers_of(distribution: Distribution, topic: str) -> Iterator[Peer]:
    """The workers that a distribution (topics and partitions by address) names, with their partitions of a topic."""
    for address, topics in distribution.items():
        place, _, fragment = address.partition("#")
        name, _, mark = fragment.partition("/")
        page = place.rstrip("/") if fragment else ""
        own = unquote(name) or urlsplit(address).hostname or address
        yield Peer(own, mark, "" if page == NOWHERE else page, tuple(sorted(topics.get(topic, ()))))


OTHERS, ANY, LOOPBACK = range(3)


def page_of(advertised: str, listening: Sequence[tuple[str, int]], host: str) -> str:
    """Where a page is reached that listens at these places: where ``advertised`` says, else at the first place that others
    reach, at the machine's own name (``host``) if that is any address, at last on the machine itself; nowhere: nothing."""
    if not listening or advertised:
        return advertised.rstrip("/") if listening else ""
    place, port = min(listening, key=lambda one: _rank(one[0]))
    place = host if _rank(place) == ANY else place
    return f"http://[{place}]:{port}" if ":" in place else f"http://{place}:{port}"


def _rank(place: str) -> int:
    try:
        found = ip_address(place)
    except ValueError:
        return LOOPBACK if place == LOCAL else OTHERS
    return LOOPBACK if found.is_loopback else ANY if found.is_unspecified else OTHERS


def numbered(partitions: Sequence[int]) -> str:
    """Partitions in words: "partition 3", "partitions 0 to 3 and 7"."""
    spans: list[list[int]] = []
    for number in sorted(partitions):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    told = [str(first) if first == last else f"{first} to {last}" for first, last in spans]
    words = " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)
    return f"partition{'s' if len(partitions) > 1 else ''} {words}"
