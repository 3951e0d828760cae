"""What operators have said, between a partition's verdicts and its decisions. Pure: no Kafka, no clock.

The model knows nothing of overrides: it counts, learns and judges as if there were none. Here, while an override covers a
verdict's network, the throttle isn't published but withdrawn (a release whose reason is "override"); when one begins, whatever
is in force under it is withdrawn; a throttle by hand is a decision of its own, said by the partition that its first address
belongs to.

An override begins and ends between two events, by the partition's clock, so a block is cut there: what is published is a
function of the events and of the book. Only `at_once` is not: what an operator wants now doesn't wait for an event. It says
nothing that wouldn't be said at the next one as well.

A shadow is the composer's matter. Here, when another one holds than decisions in force were made under, what now falls in it
is withdrawn, once. What doesn't any more is spoken of when the model speaks next: at the latest when half of its term is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.decisions.active import IN_FORCE, in_force, in_shadow
from engine.decisions.compose import Composer
from engine.decisions.override_index import NEVER_MS, Book, held_by, span_of
from engine.detector.constants import PREFIX_BITS_V4
from engine.detector.verdict import RELEASE
from engine.state.partition import Partition
from topics.columns.scan import READY, EventColumns
from topics.decisions import Decision, Source
from topics.keys import IPV4_TAG, key_text, network_text
from topics.overrides import THROTTLE, Override
from topics.partitioner import partition_of

Said = tuple[int, Decision]


class Gate:
    """One partition's way from verdicts to decisions. ``topic``: the exemptions topic's name, source of throttles by hand."""

    def __init__(self, book: Book, partition: Partition, composer: Composer, topic: str) -> None:
        self.book, self.partition = book, partition
        self.withheld = self.withdrawn = 0
        self.composer, self._topic = composer, topic
        self._told = np.zeros(0, IN_FORCE)  # said at once, of overrides that haven't begun by the partition's clock

    def apply(self, columns: EventColumns, first: int, last: int) -> Iterator[Said]:
        """Apply events ``first`` to ``last``; what is to be published, each with the number of its event in the block. All of
        it must be taken, or not all events are applied."""
        clock_ms = self._clock_ms
        if self.book.next_moment(clock_ms) == NEVER_MS:
            yield from self._said(columns, first, last, clock_ms)
            return
        times_ms = self._times_ms(columns, first, last)
        while first < last:
            later = np.flatnonzero(times_ms[first:last] >= self.book.next_moment(clock_ms))
            cut = first + int(later[0]) if len(later) else last
            yield from self._said(columns, first, cut, clock_ms)
            if cut < last:
                before_ms, clock_ms = clock_ms, int(times_ms[cut])
                source = self._source(int(columns.offset[cut]))
                yield from ((cut, decision) for decision in self._turn(before_ms, clock_ms, source))
            first = cut

    def at_once(self, networks: Sequence[str]) -> Iterator[Decision]:
        """What is to be said of networks that were given overrides just now: by the partition's clock as it stands, and also
        for what begins later by that clock, as the operator's has got there. The state is looked at before the first
        decision."""
        clock_ms, source = self._clock_ms, self._source(self.partition.applied_offset)
        newest = [override for override in map(self.book.newest, networks) if override is not None]
        lasting = [override for override in newest if override.lasts(clock_ms)]
        found = self._covered_by(lasting, clock_ms)
        if any(override.created > clock_ms for override in lasting):
            self._told = np.concatenate([self._told, found])
        return chain(
            (self._taken_back(one, clock_ms) for one in self.book.replaced(lasting) if self._is_ours(one)),
            self._effects(lasting, found, clock_ms, source),
        )

    def anew(self) -> Iterator[Decision]:
        """As `at_once` for all that lasts, and `turned`: what a new owner says of what another may have left unsaid."""
        newest = map(self.book.newest, self.book.networks())
        clock_ms = self._clock_ms
        lasting = [one.network for one in newest if one is not None and one.lasts(clock_ms)]
        return chain(self.at_once(lasting), self.turned())

    def turned(self) -> Iterator[Decision]:
        """What is to be said when another shadow may hold than before. The state is looked at before the first decision, and
        notes behind the last that all is said."""
        site, shadow, clock_ms = self.partition.state.site, self.composer.shadow, self._clock_ms
        if int(site["shadow"][0]) == shadow.digest:
            return iter(())
        source = self._source(self.partition.applied_offset)
        return self._shaded(in_shadow(self.partition, clock_ms, shadow), clock_ms, source, self.composer)

    @property
    def _clock_ms(self) -> int:
        site = self.partition.state.site[0]
        return int(site["clock_ms"]) if site["first_ms"] >= 0 else -1

    def _source(self, offset: int) -> Source:
        return Source(self.composer.topic, self.partition.number, offset)

    def _times_ms(self, columns: EventColumns, first: int, last: int) -> npt.NDArray[np.int64]:
        """Each event's time, as the detector takes it; -1 for what it passes over."""
        times_ms = np.full(last, -1, np.int64)
        stamps, records = columns.ts_ms[first:last], columns.record_ms[first:last]
        far = (records >= 0) & (np.abs(stamps - records) > self.partition.policy.window_ms)
        counts = (columns.status[first:last] == READY) & (columns.offset[first:last] > self.partition.applied_offset)
        times_ms[first:last] = np.where(counts, np.where(far, records, stamps), -1)
        return times_ms

    def _said(self, columns: EventColumns, first: int, last: int, clock_ms: int) -> Iterator[Said]:
        for verdict in self.partition.apply(columns, first, last):
            decision = self._decision(verdict, clock_ms)
            if decision is not None:
                yield int(verdict["event"]), decision

    def _decision(self, verdict: Any, clock_ms: int) -> Decision | None:
        number = self.partition.number
        covering = self.book.covering(int(verdict["key"]), int(verdict["prefix"]), clock_ms) if self.book else None
        if covering is None:
            return self.composer.decision(verdict, number)
        network = network_text(int(verdict["key"]), int(verdict["prefix"]))
        released = verdict["kind"] == RELEASE
        self.withheld += not released
        if covering.kind == THROTTLE and covering.network == network:
            return None
        if released:
            return self.composer.decision(verdict, number)
        source = self._source(int(verdict["offset"]))
        term_ms = int(verdict["issued_ms"]), int(verdict["until_ms"])
        return self.composer.withdrawal(network, term_ms, source, covering)

    def _turn(self, before_ms: int, clock_ms: int, source: Source) -> Iterator[Decision]:
        """What is to be said when the clock passes moments of the book, but for what was said at once and still stands."""
        changed = self.book.changed(before_ms, clock_ms)
        for override in changed:
            if not override.lasts(clock_ms) and self._is_ours(override):
                yield self._taken_back(override, clock_ms)
        begun = [override for override in changed if override.created > before_ms and override.lasts(clock_ms)]
        found = without(self._covered_by(begun, clock_ms), self._told)
        self._told = np.zeros(0, IN_FORCE)
        yield from self._effects(begun, found, clock_ms, source)

    def _covered_by(self, overrides: Sequence[Override], clock_ms: int) -> npt.NDArray[Any]:
        """What is in force under these overrides: IN_FORCE[], by key and prefix."""
        held = in_force(self.partition, clock_ms)
        inside = held_by([override.network for override in overrides], held["key"], held["prefix"])
        found = held[inside]
        return found[np.lexsort((found["prefix"], found["key"]))]

    def _effects(
        self, overrides: Sequence[Override], found: npt.NDArray[Any], clock_ms: int, source: Source
    ) -> Iterator[Decision]:
        """Withdraw what was found under these overrides, and say those that throttle."""
        throttles = {override.network for override in overrides if override.kind == THROTTLE}
        around = Book([replace(override, created=0, until=None) for override in overrides])
        for key, prefix, until_ms in found.tolist():
            network, by = network_text(key, prefix), around.covering(key, prefix, 0)
            if by is not None and network not in throttles:
                self.withdrawn += 1
                yield self.composer.withdrawal(network, (clock_ms, until_ms), source, by)
        for override in overrides:
            if self._is_ours(override):
                yield self.composer.by_hand(override, Source(self._topic, 0, override.offset))

    def _shaded(self, found: npt.NDArray[Any], clock_ms: int, source: Source, composer: Composer) -> Iterator[Decision]:
        for key, prefix, until_ms in found.tolist():
            self.withdrawn += 1
            yield composer.put_in_shadow(network_text(key, prefix), (clock_ms, until_ms), source)
        self.partition.state.site["shadow"] = composer.shadow.digest

    def _is_ours(self, override: Override) -> bool:
        """Whether it is a throttle by hand, and this partition is the one to say so."""
        if override.kind != THROTTLE:
            return False
        span = span_of(override.network)
        assert span is not None, "the book holds whole keys"
        first = span.number << span.bits - span.length
        key = key_text(IPV4_TAG | first if span.bits == PREFIX_BITS_V4 else first)
        return partition_of(key.encode(), self.partition.policy.partitions) == self.partition.number

    def _taken_back(self, override: Override, clock_ms: int) -> Decision:
        term_ms = clock_ms, override.until or clock_ms
        return self.composer.withdrawal(override.network, term_ms, Source(self._topic, 0, override.offset), override)


def without(found: npt.NDArray[Any], told: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What of ``found`` isn't in ``told`` with the same end."""
    if not len(told) or not len(found):
        return found
    known = set(told.tolist())
    return found[[one not in known for one in found.tolist()]]
