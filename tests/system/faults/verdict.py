"""What must hold after a fault: the state restored from the changelog is a plain replay's, row for row, and the decisions
on the topic are the replay's, repeats allowed.

Lost and doubled events are told partition by partition from the site's count. They could hide each other, so rows, cohort
and clock must equal the replay's too, octet for octet: an event that was left out or counted twice changes its sender's row.
A decision is known by network, verdict, source partition and source offset. One that was published before is a repeat, which
readers ignore; a new one with a lower source offset than an earlier one of its network and partition is a regression.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks.harness.topic_space import TopicSpace, published
from engine.config.load import Settings
from engine.detector.layout import ALARMED, DIRTY, LEARNING, ROW, SITE, STORED
from engine.pipeline.build import composer, partition
from engine.pipeline.replay import Replay
from engine.state.partition import Partition
from engine.worker.changelog import restore
from tests.support.runs import used_pools
from topics.contracts import STATE
from topics.decisions import encode_decision

Where = tuple[str, str, int, int]  # network, verdict, source partition, source offset


class Gap(NamedTuple):
    """Offsets that were gone before anybody read them, of a topic with one partition: ``length`` of them from ``first`` on."""

    first: int
    length: int


NO_GAP = Gap(0, 0)


@dataclass
class Verdict:
    """Events ``offered`` and ``counted``; what went wrong. ``complaints``: everything else that differs, a line each."""

    offered: int
    counted: int = 0
    lost: int = 0
    doubled: int = 0
    regressions: int = 0
    repeats: int = 0
    decisions: int = 0
    complaints: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether everything held."""
        return not (self.lost or self.doubled or self.regressions or self.complaints)


def judge(settings: Settings, lines: list[bytes], gap: Gap = NO_GAP) -> Verdict:
    """Compare the cluster's topics with a replay of ``lines``, all that was sent, less the ``gap``."""
    read = lines[: gap.first] + lines[gap.first + gap.length :]
    expected, wanted = _replayed(settings, read, gap)
    verdict = Verdict(len(read), decisions=len(wanted))
    for mine in expected:
        _compare_state(verdict, restored(settings, mine.number), mine)
    space = TopicSpace(settings.kafka.bootstrap, settings.topics.prefix)
    compare_decisions(verdict, (text for _, text in published(space)), wanted)
    return verdict


def _replayed(
    settings: Settings, lines: list[bytes], gap: Gap
) -> tuple[Sequence[Partition], dict[Where, dict[str, Any]]]:
    """State and decisions of a replay, with the offsets that the events have on the topic."""
    engine = Replay([partition(settings, number) for number in range(settings.topics.partitions)], composer(settings))
    found = {}
    for decisions in engine.run(io.BytesIO(b"".join(lines))):
        for decision in decisions:
            where, said = _read(encode_decision(decision))
            found[(*where[:3], _shifted(where[3], gap))] = said
    for mine in engine.partitions:
        mine.state.site["applied_offset"] = _shifted(mine.applied_offset, gap)
        used = mine.state.pools.rows["last_use"]  # twice an offset, and maybe one more
        used += 2 * gap.length * (used // 2 >= gap.first)
    return engine.partitions, found


def _shifted(offset: int, gap: Gap) -> int:
    return offset + gap.length if offset >= gap.first else offset


def restored(settings: Settings, number: int) -> Partition:
    """A partition's state as a worker that starts now would have it."""
    return _restored(settings, number)[0]


def rows_to_restore(settings: Settings) -> int:
    """How many rows a worker that starts now has to read: those that compaction has left."""
    return sum(_restored(settings, number)[1] for number in range(settings.topics.partitions))


def _restored(settings: Settings, number: int) -> tuple[Partition, int]:
    mine = partition(settings, number)
    topic, options = settings.topics.prefix + STATE.name, settings.kafka.client_options()
    return mine, asyncio.run(restore(mine, topic, options)).rows


def _compare_state(verdict: Verdict, found: Partition, wanted: Partition) -> None:
    counted, offered = (int(each.state.site["events"][0]) for each in (found, wanted))
    verdict.counted += counted
    verdict.lost += max(0, offered - counted)
    verdict.doubled += max(0, counted - offered)
    number = wanted.number
    names = [name for name in SITE.names or () if not np.array_equal(found.state.site[name], wanted.state.site[name])]
    if names:
        verdict.complaints.append(f"partition {number}: the site differs in {', '.join(names)}")
    if not np.array_equal(_pools(found), _pools(wanted)):
        verdict.complaints.append(f"partition {number}: the pools differ from the replay's")
    rows = differing_rows(_rows(found), _rows(wanted))
    if rows:
        verdict.complaints.append(f"partition {number}: {rows} rows differ from the replay's")


def _pools(mine: Partition) -> npt.NDArray[Any]:
    """In the order of their use."""
    pools = used_pools(mine.state.pools)
    pools["flags"] &= ALARMED | LEARNING
    pools.sort(order="last_use")
    return pools


def _rows(mine: Partition) -> npt.NDArray[Any]:
    rows = mine.state.rows[: mine.keys].copy()
    rows["flags"] &= ~np.uint16(DIRTY | STORED)
    rows.sort(order="key")
    return rows


def differing_rows(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> int:
    """How many keys of either have another row in the other, or none. Both sorted by key."""
    _, mine, theirs = np.intersect1d(found["key"], wanted["key"], assume_unique=True, return_indices=True)
    same = np.ones(len(mine), bool)
    for name in ROW.names or ():
        equal = found[name][mine] == wanted[name][theirs]
        same &= equal if equal.ndim == 1 else equal.all(axis=1)
    return len(found) + len(wanted) - len(mine) - int(same.sum())


def _read(text: bytes) -> tuple[Where, dict[str, Any]]:
    """Which decision it is, and what it says."""
    said = orjson.loads(text)
    source = said.pop("source")
    return (said["network"], said["verdict"], source["partition"], source["offset"]), said


def compare_decisions(verdict: Verdict, texts: Iterable[bytes], wanted: dict[Where, dict[str, Any]]) -> None:
    """Put into ``verdict`` how ``texts``, as published and in each network's order, differ from the ``wanted`` ones."""
    seen: set[Where] = set()
    newest: dict[tuple[str, int], int] = {}
    wrong = 0
    for text in texts:
        where, said = _read(text)
        wrong += wanted.get(where) != said
        if where in seen:
            verdict.repeats += 1
            continue
        seen.add(where)
        whose = (where[0], where[2])
        verdict.regressions += where[3] < newest.get(whose, -1)
        newest[whose] = max(where[3], newest.get(whose, -1))
    if wrong:
        verdict.complaints.append(f"{wrong} published decisions are not the replay's")
    if wanted.keys() - seen:
        verdict.complaints.append(f"{len(wanted.keys() - seen)} decisions of {len(wanted)} were never published")
