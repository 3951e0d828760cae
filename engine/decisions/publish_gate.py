"""Apply operator overrides and shadow mode to a partition's verdicts before they are published.

The detector knows nothing of overrides: it counts, learns and decides as if there were none. Here:

- while an override covers a verdict's network, its throttle is withdrawn (a release with reason "override"), not published;
- when an override begins, the active throttles under it are withdrawn;
- a manual throttle is a decision of its own, published by the partition that its first address belongs to.

Overrides begin and end between two events, by the partition's clock, so blocks are cut there and the decisions depend on
events and overrides alone. Only `apply_now` doesn't wait for the next event. It publishes nothing that the next event
wouldn't lead to.

When the shadow rules change, active throttles that are now in shadow are withdrawn, once. A throttle that is no longer in
shadow is published with its next decision: at the latest when half of its term has passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.decisions.active import ACTIVE, active_in_shadow, active_throttles, sort_throttles
from engine.decisions.compose import Composer, Term
from engine.decisions.override_index import NEVER_MS, OverrideIndex, always_active
from engine.detector.verdict import RELEASE
from engine.state.partition import Partition
from topics.columns.keys import keys_inside
from topics.columns.scan import READY, EventColumns, event_times
from topics.decisions import Decision, Source
from topics.keys import key_text
from topics.networks import network_of, network_of_key, network_text
from topics.overrides import THROTTLE, Override
from topics.partitioner import partition_of

EventDecision = tuple[int, Decision]  # an event's number in its block, and a decision that it led to


class GateCounts(NamedTuple):
    """Throttles that a gate has not published or withdrawn."""

    withheld: int  # verdicts under an override
    withdrawn: int  # active throttles, when an override or shadow rules came


class PublishGate:
    """Makes the decisions of one partition. ``topic``: name of the topic of overrides, source of manual throttles.

    State changes when a method is called. `apply_now`, `reconcile` and `apply_shadow_change` return iterators, because a
    list of a million withdrawals would need a gigabyte. Iterating composes decisions from what was found at the call. Only
    a change of shadow rules is marked as applied after the last decision, so that a crash before it repeats the rest.
    """

    def __init__(self, index: OverrideIndex, partition: Partition, composer: Composer, topic: str) -> None:
        self.partition = partition
        self._index, self._composer, self._topic = index, composer, topic
        self._withheld = self._withdrawn = 0
        self._already_published = np.zeros(0, ACTIVE)  # withdrawn by `apply_now`, under overrides that begin later

    def drain_counts(self) -> GateCounts:
        """Return the counts since the last call."""
        counts = GateCounts(self._withheld, self._withdrawn)
        self._withheld = self._withdrawn = 0
        return counts

    def reconfigure(self, composer: Composer) -> None:
        """Make later decisions with another configuration; `apply_shadow_change` publishes what its shadow rules withdraw."""
        self._composer = composer

    def apply(self, columns: EventColumns, first: int, last: int) -> list[EventDecision]:
        """Apply events ``first`` to ``last`` and return their decisions in order of publication."""
        start, clock_ms = first, self._clock_ms
        if self._index.next_change_ms(clock_ms) == NEVER_MS:
            return self._decisions(columns, first, last, clock_ms)
        made: list[EventDecision] = []
        times_ms = self._applied_times(columns, first, last)
        while first < last:
            later = np.flatnonzero(times_ms[first - start :] >= self._index.next_change_ms(clock_ms))
            cut = first + int(later[0]) if len(later) else last
            made += self._decisions(columns, first, cut, clock_ms)
            if cut < last:
                before_ms, clock_ms = clock_ms, int(times_ms[cut - start])
                source = self._source(int(columns.offset[cut]))
                made += [(cut, decision) for decision in self._apply_changes(before_ms, clock_ms, source)]
            first = cut
        return made

    def apply_now(self, networks: Sequence[str]) -> Iterator[Decision]:
        """Return the decisions on networks that have just been given overrides, without waiting for an event.

        An override that begins later by the partition's clock counts too: the operator's clock has passed its beginning.
        """
        clock_ms, source = self._clock_ms, self._source(self.partition.applied_offset)
        latest = [override for override in map(self._index.latest, networks) if override is not None]
        lasting = [override for override in latest if override.lasts(clock_ms)]
        covered = self._covered_by(lasting, clock_ms)
        if any(override.created > clock_ms for override in lasting):
            self._already_published = np.concatenate([self._already_published, covered])
        replaced = [override for override in self._index.replaced_by(lasting) if self._publishes(override)]
        ends = [self._end_of_manual_throttle(override, clock_ms) for override in replaced]
        return chain(ends, self._effects(lasting, covered, clock_ms, source))

    def reconcile(self) -> Iterator[Decision]:
        """Return the decisions that a new owner publishes, because the last one may not have: `apply_now` for every override
        that hasn't expired, then `apply_shadow_change`."""
        clock_ms = self._clock_ms
        latest = map(self._index.latest, self._index.networks())
        lasting = [override.network for override in latest if override is not None and override.lasts(clock_ms)]
        return chain(self.apply_now(lasting), self.apply_shadow_change())

    def apply_shadow_change(self) -> Iterator[Decision]:
        """Return the withdrawals of active throttles that are in shadow, if the rules aren't those of the last call.

        The rules count as applied once the iterator is exhausted.
        """
        composer, clock_ms = self._composer, self._clock_ms
        if int(self.partition.state.site["shadow_digest"][0]) == composer.shadow.digest:
            return iter(())
        in_shadow = active_in_shadow(self.partition, clock_ms, composer.shadow)
        self._withdrawn += len(in_shadow)
        source = self._source(self.partition.applied_offset)
        return self._compose_each_then_mark_shadow_applied(composer, in_shadow, clock_ms, source)

    @property
    def _clock_ms(self) -> int:
        site = self.partition.state.site[0]
        return int(site["clock_ms"]) if site["first_ms"] >= 0 else -1

    def _source(self, offset: int) -> Source:
        return Source(self._composer.topic, self.partition.number, offset)

    def _applied_times(self, columns: EventColumns, first: int, last: int) -> npt.NDArray[np.int64]:
        """Return the times of events ``first`` to ``last``, -1 for those that the detector skips."""
        times_ms = event_times(columns, first, last, self.partition.policy.window_ms)
        is_new = columns.offset[first:last] > self.partition.applied_offset
        return np.where((columns.status[first:last] == READY) & is_new, times_ms, -1)

    def _decisions(self, columns: EventColumns, first: int, last: int, clock_ms: int) -> list[EventDecision]:
        verdicts = self.partition.apply(columns, first, last)
        made = [(int(verdict["event"]), self._decision(verdict, clock_ms)) for verdict in verdicts]
        return [(event, decision) for event, decision in made if decision is not None]

    def _decision(self, verdict: Any, clock_ms: int) -> Decision | None:
        number, key, prefix = self.partition.number, int(verdict["key"]), int(verdict["prefix"])
        covering = self._index.covering(network_of_key(key, prefix), clock_ms) if self._index else None
        if covering is None:
            return self._composer.decision(verdict, number)
        network = network_text(key, prefix)
        is_release = verdict["kind"] == RELEASE
        self._withheld += not is_release
        if covering.kind == THROTTLE and covering.network == network:
            return None
        if is_release:
            return self._composer.decision(verdict, number)
        term = Term(int(verdict["issued_ms"]), int(verdict["until_ms"]))
        return self._composer.withdrawal(network, term, self._source(int(verdict["offset"])), covering)

    def _apply_changes(self, before_ms: int, clock_ms: int, source: Source) -> list[Decision]:
        """Return the decisions due to overrides that begin or end as the clock advances, without those of `apply_now`."""
        changed = self._index.changed(before_ms, clock_ms)
        expired = [override for override in changed if not override.lasts(clock_ms) and self._publishes(override)]
        begun = [override for override in changed if override.created > before_ms and override.lasts(clock_ms)]
        covered = _difference(self._covered_by(begun, clock_ms), self._already_published)
        self._already_published = np.zeros(0, ACTIVE)
        ends = [self._end_of_manual_throttle(override, clock_ms) for override in expired]
        return [*ends, *self._effects(begun, covered, clock_ms, source)]

    def _covered_by(self, overrides: Sequence[Override], clock_ms: int) -> npt.NDArray[Any]:
        """Return the active throttles under these overrides: ACTIVE[] in order of publication."""
        active = active_throttles(self.partition, clock_ms)
        networks = [network_of(override.network) for override in overrides]
        return sort_throttles(active[keys_inside(networks, active["key"], active["prefix"])])

    def _effects(
        self, overrides: Sequence[Override], covered: npt.NDArray[Any], clock_ms: int, source: Source
    ) -> Iterator[Decision]:
        """Return the withdrawals of covered throttles, then this partition's manual throttles.

        A throttle of exactly a manually throttled network isn't withdrawn, because the manual one replaces it.
        """
        throttled = {override.network for override in overrides if override.kind == THROTTLE}
        if throttled:
            replaced = [network_text(key, prefix) in throttled for key, prefix, _ in covered.tolist()]
            covered = covered[~np.array(replaced, np.bool_)]
        self._withdrawn += len(covered)
        manual = [
            self._composer.manual_throttle(override, Source(self._topic, 0, override.offset))
            for override in overrides
            if self._publishes(override)
        ]
        withdrawals = _compose_each_withdrawal(self._composer, always_active(overrides), covered, clock_ms, source)
        return chain(withdrawals, manual)

    def _compose_each_then_mark_shadow_applied(
        self, composer: Composer, in_shadow: npt.NDArray[Any], clock_ms: int, source: Source
    ) -> Iterator[Decision]:
        for key, prefix, until_ms in in_shadow.tolist():
            yield composer.shadow_withdrawal(network_text(key, prefix), Term(clock_ms, until_ms), source)
        self.partition.state.site["shadow_digest"] = composer.shadow.digest

    def _publishes(self, override: Override) -> bool:
        """Return True if it is a manual throttle that this partition publishes."""
        if override.kind != THROTTLE:
            return False
        key = key_text(network_of(override.network).first_key)
        return partition_of(key.encode(), self.partition.policy.partitions) == self.partition.number

    def _end_of_manual_throttle(self, override: Override, clock_ms: int) -> Decision:
        term = Term(clock_ms, override.until or clock_ms)
        return self._composer.withdrawal(override.network, term, Source(self._topic, 0, override.offset), override)


def _compose_each_withdrawal(
    composer: Composer, index: OverrideIndex, covered: npt.NDArray[Any], clock_ms: int, source: Source
) -> Iterator[Decision]:
    """Compose the withdrawals one by one, each with the override of `index` that covers it."""
    for key, prefix, until_ms in covered.tolist():
        override = index.covering(network_of_key(key, prefix), 0)
        if override is not None:
            yield composer.withdrawal(network_text(key, prefix), Term(clock_ms, until_ms), source, override)


def _difference(active: npt.NDArray[Any], published: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the throttles of `active` that aren't in `published` with the same end."""
    if not len(published) or not len(active):
        return active
    known = set(published.tolist())
    return active[[throttle not in known for throttle in active.tolist()]]
