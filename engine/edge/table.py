"""The decisions in force, in memory: bounded, matched by longest prefix, each with its token bucket.

Rows are columns of plain numbers, about 90 octets a decision, and the index holds integers only: nothing here is for the
garbage collector to walk. At ``capacity`` new networks are refused and counted: who isn't here is not throttled.

A row ends at ``until_ms`` by the caller's clock. What is not newer is ignored: a lower source offset than the one held for
the network and partition, or a release at the same one; a release that an operator ordered counts from one offset later. A
released row stays, marked by a negative ``until_ms``, until its time is over: a worker that replays after a crash publishes
the throttle again, and must not bring it back.

A row in shadow takes its network's place like any other, and throttles nobody: look-ups that defer pass over it.

Nobody is throttled by what may be outdated: `trusted_until_ms` is moved on by whoever follows Kafka.
"""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

from engine.edge.decision_row import LAST_MS, LAST_OFFSET, Release, Row
from engine.edge.prefix_map import Prefixes
from topics.decisions import Source
from topics.networks import Network

WORD = 0xFFFFFFFF_FFFFFFFF
MOST_EXEMPTIONS = 100_000
MOST_SOURCES = 65_535
NOWHERE = -1


class Columns(NamedTuple):
    """One array a field, their codes in `TYPECODES`. ``until_ms``: 0 in a free row, negative in a released one; ``filled_ms``:
    when ``tokens`` was right."""

    high: array[int]
    low: array[int]
    bits: array[int]
    length: array[int]
    until_ms: array[int]
    rate_per_ms: array[float]
    burst: array[float]
    tokens: array[float]
    filled_ms: array[int]
    status: array[int]
    tag: array[int]
    source: array[int]
    offset: array[int]
    shadow: array[int]


TYPECODES = "QQBBqdddqHIHqB"


def empty_columns() -> Columns:
    """Columns without a row."""
    arrays: list[Any] = [array(code) for code in TYPECODES]
    return Columns(*arrays)


class Table:
    """At most ``capacity`` decisions, and exemptions beside them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.trusted_until_ms = 0
        self.edges = 1
        self.refused = self.ignored = 0
        self.clear()

    def clear(self) -> None:
        """Forget all decisions and exemptions, to begin anew."""
        self.columns = empty_columns()
        self.sources: list[tuple[str, int]] = []
        self.exemptions: dict[Network, int] = {}
        self.names: dict[str, int] = {}
        self._throttled, self._exempted = Prefixes(), Prefixes()
        self._free: list[int] = []
        self._numbers: dict[tuple[str, int], int] = {}
        self._cursor = 0

    def __len__(self) -> int:
        """Decisions held, released ones that are remembered among them."""
        return len(self.columns.until_ms) - len(self._free)

    def find(self, bits: int, number: int, now_ms: int, *, enforced: bool = False) -> int:
        """The place of the longest live network around an address, or of the longest that isn't in shadow if ``enforced``;
        `NOWHERE` if there is none."""
        until_ms, shadow = self.columns.until_ms, self.columns.shadow
        for shift, places in self._throttled.lengths[bits]:
            place = places.get(number >> shift)
            if place is not None and until_ms[place] > now_ms and not (enforced and shadow[place]):
                return place
        return NOWHERE

    def is_exempt(self, bits: int, number: int, now_ms: int) -> bool:
        """Whether any live exemption covers the address."""
        for shift, ends_ms in self._exempted.lengths[bits]:  # noqa: SIM110 (a generator costs more than all dicts)
            if ends_ms.get(number >> shift, 0) > now_ms:
                return True
        return False

    def take(self, place: int, now_ms: int, *, keep: bool = False) -> float:
        """Take a token for one message (only look if ``keep``): 0 if there was one, else the ms until there will be.

        This edge has its part of rate and burst, but always a burst of one message."""
        columns, edges = self.columns, self.edges
        rate, most = columns.rate_per_ms[place] / edges, columns.burst[place] / edges
        tokens, passed_ms = columns.tokens[place], now_ms - columns.filled_ms[place]
        if passed_ms > 0:
            tokens += passed_ms * rate
        if tokens > most:
            tokens = most if most > 1.0 else min(tokens, 1.0)
        columns.tokens[place], columns.filled_ms[place] = tokens, now_ms
        if tokens >= 1.0:
            if not keep:
                columns.tokens[place] = tokens - 1.0
            return 0.0
        until_end_ms = float(columns.until_ms[place] - now_ms)
        return min(until_end_ms, (1.0 - tokens) / rate) if rate > 0 else until_end_ms

    def network(self, place: int) -> Network:
        """The network of a row."""
        columns = self.columns
        return Network(columns.bits[place], columns.high[place] << 64 | columns.low[place], columns.length[place])

    def put(self, row: Row, now_ms: int) -> None:
        """Take a decision in, unless it is over, not newer than what is held, or there is no room."""
        if row.until_ms <= now_ms:
            return
        place, source = self._throttled.get(row.network), self._source(row.source)
        if place == NOWHERE:
            place = self._place(row.network)
            if place == NOWHERE:
                self.refused += 1
                return
            self._fill(place, row.burst, now_ms)
        elif abs(self.columns.until_ms[place]) <= now_ms:
            self._fill(place, row.burst, now_ms)
        elif self._is_old(place, source, row.source.offset, released=self.columns.until_ms[place] < 0):
            self.ignored += 1
            return
        self._write(place, row, source)

    def release(self, release: Release) -> None:
        """End a throttle before its time."""
        place = self._throttled.get(release.network)
        if place == NOWHERE:
            return
        until_ms = self.columns.until_ms
        if release.source is not None:
            source = self._source(release.source)
            offset = min(release.source.offset + release.ordered, LAST_OFFSET)  # an order comes behind its event
            if self._is_old(place, source, offset, released=True):
                self.ignored += 1
                return
            self.columns.source[place], self.columns.offset[place] = source, offset
        until_ms[place] = -abs(until_ms[place])

    def exempt(self, network: Network, until_ms: int | None) -> None:
        """Exempt a network until a time (None: for good)."""
        if network not in self.exemptions and len(self.exemptions) >= MOST_EXEMPTIONS:
            self.refused += 1
            return
        self.exemptions[network] = LAST_MS if until_ms is None else min(max(until_ms, 0), LAST_MS)
        self._exempted.put(network, self.exemptions[network])

    def end_exemption(self, network: Network) -> None:
        """Take an exemption back."""
        if self.exemptions.pop(network, None) is not None:
            self._exempted.remove(network)

    def exempt_name(self, suffix: str, until_ms: int | None) -> None:
        """Exempt all whose name ends so (``client:.example.com``) until a time (None: for good)."""
        if suffix not in self.names and len(self.names) >= MOST_EXEMPTIONS:
            self.refused += 1
            return
        self.names[suffix] = LAST_MS if until_ms is None else min(max(until_ms, 0), LAST_MS)

    def is_name_exempt(self, kind: str, name: str, now_ms: int) -> bool:
        """Whether a live exemption covers a name of that kind, ``client:`` or ``helo:``."""
        left = "." + name.lower().removesuffix(".")
        while left:
            if self.names.get(kind + left, 0) > now_ms:
                return True
            _, dot, rest = left[1:].partition(".")
            left = dot + rest
        return False

    def restore(self, stored: Columns, sources: list[tuple[str, int]]) -> None:
        """Take in rows of a snapshot; of two rows of a network the newer one stays. Call it on a table without rows."""
        assert len(self) == 0
        self.sources = sources
        self._numbers = {key: number for number, key in enumerate(sources)}
        self.columns = stored
        for place, until_ms in enumerate(stored.until_ms):
            if not until_ms:
                self._free.append(place)
                continue
            network = self.network(place)
            other = self._throttled.get(network)
            older = place if other != NOWHERE and stored.offset[place] < stored.offset[other] else other
            if older != place:
                self._throttled.put(network, place)
            if older != NOWHERE:
                stored.until_ms[older] = 0
                self._free.append(older)

    def sweep(self, now_ms: int, rows: int) -> None:
        """Free the rows whose time is over among the next ``rows`` ones; called often, it comes around."""
        until_ms = self.columns.until_ms
        size = len(until_ms)
        for place in range(self._cursor, min(self._cursor + rows, size)):
            if until_ms[place] and abs(until_ms[place]) <= now_ms:
                self._throttled.remove(self.network(place))
                until_ms[place] = 0
                self._free.append(place)
        self._cursor = self._cursor + rows if self._cursor + rows < size else 0

    def _place(self, network: Network) -> int:
        if self._free:
            place = self._free.pop()
        elif len(self.columns.until_ms) < self.capacity:
            place = len(self.columns.until_ms)
            for column in self.columns:
                column.append(0)
        else:
            return NOWHERE
        columns = self.columns
        columns.high[place], columns.low[place] = network.number >> 64, network.number & WORD
        columns.bits[place], columns.length[place] = network.bits, network.length
        self._throttled.put(network, place)
        return place

    def _fill(self, place: int, burst: float, now_ms: int) -> None:
        self.columns.tokens[place], self.columns.filled_ms[place] = burst, now_ms

    def _write(self, place: int, row: Row, source: int) -> None:
        columns = self.columns
        columns.until_ms[place] = row.until_ms
        columns.rate_per_ms[place], columns.burst[place] = row.rate_per_ms, row.burst
        columns.status[place], columns.tag[place] = row.status, row.tag
        columns.source[place], columns.offset[place] = source, row.source.offset
        columns.shadow[place] = row.shadow

    def _is_old(self, place: int, source: int, offset: int, *, released: bool) -> bool:
        """Whether what is held for the place is newer; at the same offset a release (held or coming) gives way."""
        columns = self.columns
        if columns.source[place] != source or source == MOST_SOURCES:
            return False
        held = columns.offset[place]
        came_to_release = released and columns.until_ms[place] > 0
        return offset < held or (came_to_release and offset == held)

    def _source(self, source: Source) -> int:
        """A small number for topic and partition; beyond `MOST_SOURCES` of them all are alike, and always newer."""
        key = (source.topic, source.partition)
        number = self._numbers.get(key)
        if number is None:
            if len(self.sources) >= MOST_SOURCES:
                return MOST_SOURCES
            number = self._numbers[key] = len(self.sources)
            self.sources.append(key)
        return number
