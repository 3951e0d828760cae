"""The conditions after a fault: the restored state equals a plain replay's, row for row, and so do the decisions.

- Lost and doubled events are found by partition from the site's count. They could hide each other, so rows, cohort and clock
  must equal the replay's byte for byte: a lost or doubled event changes its sender's row.
- A decision is identified by network, verdict, source partition and source offset. A second publication is a repeat, which
  readers ignore. A new decision with a lower source offset than an earlier one of its network and partition is a regression.
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

Identity = tuple[str, str, int, int]  # network, verdict, source partition, source offset


class Gap(NamedTuple):
    """Offsets that were deleted before they were read: ``length`` of them from ``first`` on, of a topic with one partition."""

    first: int
    length: int


NO_GAP = Gap(0, 0)


@dataclass
class Verdict:
    """The result of the comparison."""

    offered: int  # events
    counted: int = 0  # events
    lost: int = 0
    doubled: int = 0
    regressions: int = 0
    repeats: int = 0
    decisions: int = 0
    complaints: list[str] = field(default_factory=list)  # a line for every other difference

    @property
    def good(self) -> bool:
        """True if every condition holds."""
        return not (self.lost or self.doubled or self.regressions or self.complaints)


def judge(settings: Settings, lines: list[bytes], gap: Gap = NO_GAP) -> Verdict:
    """Compare the cluster's topics with a replay of ``lines``, the sent events, without the ``gap``."""
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
) -> tuple[Sequence[Partition], dict[Identity, dict[str, Any]]]:
    """Return state and decisions of a replay, with the offsets of the events on the topic."""
    engine = Replay([partition(settings, number) for number in range(settings.topics.partitions)], composer(settings))
    wanted = {}
    for decisions in engine.run(io.BytesIO(b"".join(lines))):
        for decision in decisions:
            identity, content = _read(encode_decision(decision))
            wanted[(*identity[:3], _shifted(identity[3], gap))] = content
    for mine in engine.partitions:
        mine.state.site["applied_offset"] = _shifted(mine.applied_offset, gap)
        used = mine.state.pools.rows["last_use"]  # twice an offset, and maybe one more
        used += 2 * gap.length * (used // 2 >= gap.first)
    return engine.partitions, wanted


def _shifted(offset: int, gap: Gap) -> int:
    return offset + gap.length if offset >= gap.first else offset


def restored(settings: Settings, number: int) -> Partition:
    """Return a partition's state as a worker would restore it now."""
    return _restored(settings, number)[0]


def rows_to_restore(settings: Settings) -> int:
    """Return the rows that a worker would read now: those that compaction has left."""
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
    """Return the pools in the order of their use."""
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
    """Return the number of keys whose rows differ or exist on one side only. Both are sorted by key."""
    _, mine, theirs = np.intersect1d(found["key"], wanted["key"], assume_unique=True, return_indices=True)
    same = np.ones(len(mine), bool)
    for name in ROW.names or ():
        equal = found[name][mine] == wanted[name][theirs]
        same &= equal if equal.ndim == 1 else equal.all(axis=1)
    return len(found) + len(wanted) - len(mine) - int(same.sum())


def _read(text: bytes) -> tuple[Identity, dict[str, Any]]:
    """Return a decision's identity and its other fields."""
    fields = orjson.loads(text)
    source = fields.pop("source")
    return (fields["network"], fields["verdict"], source["partition"], source["offset"]), fields


def compare_decisions(verdict: Verdict, texts: Iterable[bytes], wanted: dict[Identity, dict[str, Any]]) -> None:
    """Add to ``verdict`` the differences of the published ``texts``, in each network's order, from the ``wanted`` ones."""
    seen: set[Identity] = set()
    newest: dict[tuple[str, int], int] = {}
    wrong = 0
    for text in texts:
        identity, content = _read(text)
        wrong += wanted.get(identity) != content
        if identity in seen:
            verdict.repeats += 1
            continue
        seen.add(identity)
        network = (identity[0], identity[2])
        verdict.regressions += identity[3] < newest.get(network, -1)
        newest[network] = max(identity[3], newest.get(network, -1))
    if wrong:
        verdict.complaints.append(f"{wrong} published decisions are not the replay's")
    if wanted.keys() - seen:
        verdict.complaints.append(f"{len(wanted.keys() - seen)} decisions of {len(wanted)} were never published")
