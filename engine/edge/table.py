"""The live decisions in memory: bounded, matched by longest prefix, each with its token bucket.

Rows are columns of plain numbers, about 90 bytes a decision. The index holds integers only, so the garbage collector
has nothing to traverse. At `capacity` new networks are refused and counted; their mail is not throttled.

A row ends at `until_ms` by the caller's clock. A row is replaced or released only by a newer record: a higher source offset
of the same partition, or a throttle at the same offset. An operator's release counts as one offset later. A released row
stays, marked by a negative `until_ms`, until its time is over, because a worker that replays after a crash publishes the
throttle again.

A row in shadow occupies its network's slot like any other; a look-up that decides about a deferral skips it. Decisions
are trusted until `trusted_until_ms`, which the decision feed moves forward.
"""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

from engine.edge.decision_row import DecisionRow, Release
from engine.edge.prefix_map import PrefixMap
from topics.closed_json import MAX_INTEGER
from topics.decisions import Precedence, Source, supersedes
from topics.events import LAST_TS_MS
from topics.networks import Network

WORD = 0xFFFFFFFF_FFFFFFFF
MAX_EXEMPTIONS = 100_000  # networks, and as many names
MAX_SOURCES = 65_535  # distinct topic partitions; the number itself represents all others
NO_SLOT = -1


class DecisionColumns(NamedTuple):
    """The rows, one array per field; `TYPECODES` has the type of each."""

    high: array[int]  # upper 64 bits of the network's address
    low: array[int]  # lower 64 bits
    bits: array[int]  # address width
    length: array[int]  # prefix length
    until_ms: array[int]  # 0 in a free row, negative in a released one
    rate_per_ms: array[float]
    burst: array[float]
    tokens: array[float]  # at the time `filled_ms`
    filled_ms: array[int]
    status: array[int]
    tag: array[int]
    source: array[int]  # index into `DecisionTable.sources`
    offset: array[int]
    shadow: array[int]


TYPECODES = "QQBBqdddqHIHqB"


def empty_columns() -> DecisionColumns:
    """Return columns without rows."""
    arrays: list[Any] = [array(code) for code in TYPECODES]
    return DecisionColumns(*arrays)


class DecisionTable:
    """At most `capacity` decisions, plus `MAX_EXEMPTIONS` exempt networks and as many exempt names."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.trusted_until_ms = 0
        self.live_edges = 1
        self.refused = self.ignored = 0
        self.clear()

    def clear(self) -> None:
        """Drop all decisions and exemptions."""
        self.columns = empty_columns()
        self.sources: list[tuple[str, int]] = []
        self.exemptions: dict[Network, int] = {}
        self.exempt_names: dict[str, int] = {}
        self._throttled, self._exempted = PrefixMap(), PrefixMap()
        self._free: list[int] = []
        self._source_index: dict[tuple[str, int], int] = {}
        self._cursor = 0

    def __len__(self) -> int:
        """Return the number of rows in use, released ones included."""
        return len(self.columns.until_ms) - len(self._free)

    def trust_until(self, until_ms: int) -> None:
        """Set the Unix time after which no decision is trusted."""
        self.trusted_until_ms = until_ms

    def share_among(self, live_edges: int) -> None:
        """Set the number of edges, at least 1, that divide every rate and burst."""
        self.live_edges = live_edges

    def find(self, bits: int, number: int, now_ms: int, *, enforced: bool = False) -> int:
        """Return the slot of the longest live network around an address, or `NO_SLOT`.

        Skips decisions in shadow if `enforced` is True.
        """
        until_ms, shadow = self.columns.until_ms, self.columns.shadow
        for shift, slots in self._throttled.lengths[bits]:
            slot = slots.get(number >> shift)
            if slot is not None and until_ms[slot] > now_ms and not (enforced and shadow[slot]):
                return slot
        return NO_SLOT

    def is_exempt(self, bits: int, number: int, now_ms: int) -> bool:
        """Return True if a live exemption covers the address."""
        for shift, ends_ms in self._exempted.lengths[bits]:  # noqa: SIM110 (a generator costs more than all dicts)
            if ends_ms.get(number >> shift, 0) > now_ms:
                return True
        return False

    def take_token(self, slot: int, now_ms: int, *, consume: bool = True) -> float:
        """Return the wait in ms until one message may pass, 0 if it may pass now.

        Consumes a token unless `consume` is False. Rate and burst are divided by the number of live edges;
        each edge keeps a burst of at least one message.
        """
        columns, edges = self.columns, self.live_edges
        rate, burst = columns.rate_per_ms[slot] / edges, columns.burst[slot] / edges
        tokens, passed_ms = columns.tokens[slot], now_ms - columns.filled_ms[slot]
        if passed_ms > 0:
            tokens += passed_ms * rate
        if tokens > burst:
            tokens = burst if burst > 1.0 else min(tokens, 1.0)
        columns.tokens[slot], columns.filled_ms[slot] = tokens, now_ms
        if tokens >= 1.0:
            if consume:
                columns.tokens[slot] = tokens - 1.0
            return 0.0
        until_end_ms = float(columns.until_ms[slot] - now_ms)
        return min(until_end_ms, (1.0 - tokens) / rate) if rate > 0 else until_end_ms

    def network(self, slot: int) -> Network:
        """Return the network of a row."""
        columns = self.columns
        return Network(columns.bits[slot], columns.high[slot] << 64 | columns.low[slot], columns.length[slot])

    def put(self, row: DecisionRow, now_ms: int) -> None:
        """Store a decision, unless it is over, not newer than the stored one (counted), or the table is full (counted)."""
        if row.until_ms <= now_ms:
            return
        slot, source = self._throttled.get(row.network), self._source(row.source)
        if slot == NO_SLOT:
            slot = self._allocate(row.network)
            if slot == NO_SLOT:
                self.refused += 1
                return
            self._fill(slot, row.burst, now_ms)
        elif abs(self.columns.until_ms[slot]) <= now_ms:
            self._fill(slot, row.burst, now_ms)
        elif not self._supersedes(slot, source, Precedence(row.source.offset, is_throttle=True)):
            self.ignored += 1
            return
        self._write(slot, row, source)

    def release(self, release: Release) -> None:
        """Mark a throttle as released, unless the release is not newer than the stored decision (counted)."""
        slot = self._throttled.get(release.network)
        if slot == NO_SLOT:
            return
        until_ms = self.columns.until_ms
        if release.source is not None:
            source = self._source(release.source)
            offset = min(release.source.offset + release.by_operator, MAX_INTEGER)
            if not self._supersedes(slot, source, Precedence(offset, is_throttle=False)):
                self.ignored += 1
                return
            self.columns.source[slot], self.columns.offset[slot] = source, offset
        until_ms[slot] = -abs(until_ms[slot])

    def exempt(self, network: Network, until_ms: int | None) -> None:
        """Exempt a network until a Unix time, or until cancelled if None. Refused and counted at `MAX_EXEMPTIONS`."""
        if network not in self.exemptions and len(self.exemptions) >= MAX_EXEMPTIONS:
            self.refused += 1
            return
        self.exemptions[network] = _clamp_end_ms(until_ms)
        self._exempted.put(network, self.exemptions[network])

    def end_exemption(self, network: Network) -> None:
        """Remove a network's exemption, if it has one."""
        if self.exemptions.pop(network, None) is not None:
            self._exempted.remove(network)

    def exempt_name(self, suffix: str, until_ms: int | None) -> None:
        """Exempt all names with a suffix (``client:.example.com``) until a Unix time, or until cancelled if None.

        Refused and counted at `MAX_EXEMPTIONS`.
        """
        if suffix not in self.exempt_names and len(self.exempt_names) >= MAX_EXEMPTIONS:
            self.refused += 1
            return
        self.exempt_names[suffix] = _clamp_end_ms(until_ms)

    def end_name_exemption(self, suffix: str) -> None:
        """Remove a name suffix's exemption, if it has one."""
        self.exempt_names.pop(suffix, None)

    def is_name_exempt(self, kind: str, name: str, now_ms: int) -> bool:
        """Return True if a live exemption covers a name of the kind ``client:`` or ``helo:``."""
        suffix = "." + name.lower().removesuffix(".")
        while suffix:
            if self.exempt_names.get(kind + suffix, 0) > now_ms:
                return True
            _, dot, parent = suffix[1:].partition(".")
            suffix = dot + parent
        return False

    def restore(self, stored: DecisionColumns, sources: list[tuple[str, int]]) -> None:
        """Adopt the rows of a snapshot. Of two rows of a network the newer one is kept. The table must be empty."""
        assert len(self) == 0
        self.sources = sources
        self._source_index = {key: number for number, key in enumerate(sources)}
        self.columns = stored
        for slot, until_ms in enumerate(stored.until_ms):
            if not until_ms:
                self._free.append(slot)
                continue
            network = self.network(slot)
            other = self._throttled.get(network)
            older = slot if other != NO_SLOT and stored.offset[slot] < stored.offset[other] else other
            if older != slot:
                self._throttled.put(network, slot)
            if older != NO_SLOT:
                stored.until_ms[older] = 0
                self._free.append(older)

    def sweep(self, now_ms: int, rows: int) -> None:
        """Free expired rows among the next `rows` ones; repeated calls pass through the whole table."""
        until_ms = self.columns.until_ms
        size = len(until_ms)
        for slot in range(self._cursor, min(self._cursor + rows, size)):
            if until_ms[slot] and abs(until_ms[slot]) <= now_ms:
                self._throttled.remove(self.network(slot))
                until_ms[slot] = 0
                self._free.append(slot)
        self._cursor = self._cursor + rows if self._cursor + rows < size else 0

    def _allocate(self, network: Network) -> int:
        if self._free:
            slot = self._free.pop()
        elif len(self.columns.until_ms) < self.capacity:
            slot = len(self.columns.until_ms)
            for column in self.columns:
                column.append(0)
        else:
            return NO_SLOT
        columns = self.columns
        columns.high[slot], columns.low[slot] = network.number >> 64, network.number & WORD
        columns.bits[slot], columns.length[slot] = network.bits, network.length
        self._throttled.put(network, slot)
        return slot

    def _fill(self, slot: int, burst: float, now_ms: int) -> None:
        self.columns.tokens[slot], self.columns.filled_ms[slot] = burst, now_ms

    def _write(self, slot: int, row: DecisionRow, source: int) -> None:
        columns = self.columns
        columns.until_ms[slot] = row.until_ms
        columns.rate_per_ms[slot], columns.burst[slot] = row.rate_per_ms, row.burst
        columns.status[slot], columns.tag[slot] = row.status, row.tag
        columns.source[slot], columns.offset[slot] = source, row.source.offset
        columns.shadow[slot] = row.shadow

    def _supersedes(self, slot: int, source: int, new: Precedence) -> bool:
        """Return True if a record of a topic partition replaces the stored one."""
        columns = self.columns
        if columns.source[slot] != source or source == MAX_SOURCES:
            return True
        return supersedes(Precedence(columns.offset[slot], columns.until_ms[slot] > 0), new)

    def _source(self, source: Source) -> int:
        """Return the index of a topic partition. Beyond `MAX_SOURCES` they share one index, and the last record wins."""
        key = (source.topic, source.partition)
        number = self._source_index.get(key)
        if number is None:
            if len(self.sources) >= MAX_SOURCES:
                return MAX_SOURCES
            number = self._source_index[key] = len(self.sources)
            self.sources.append(key)
        return number


def _clamp_end_ms(until_ms: int | None) -> int:
    return LAST_TS_MS if until_ms is None else min(max(until_ms, 0), LAST_TS_MS)
