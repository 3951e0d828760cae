"""What a partition's state has in force: throttles of keys and of prefixes, and those of them that a shadow falls on.

The state doesn't keep why a throttle was said. What it may have been said for decides, so rather too much falls in a reason's
shadow than too little: a newcomer's with a pool's rate in that of pools, one that became known within the term in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.decisions.override_index import held_by
from engine.decisions.shadow import Shadow
from engine.detector.constants import POOL_RATE_PER_H, PREFIX_BITS_V4, PREFIX_BITS_V6, PREFIX_SHIFTS, PROBATION_DAYS
from engine.detector.layout import PASSED
from engine.state.partition import Partition
from topics.decisions import POOL, PROBATION, SHADOW, VOLUME
from topics.keys import IPV4_TAG, network_text

IN_FORCE = np.dtype(
    [("key", "u8"), ("prefix", "i8"), ("until_ms", "i8")]
)  # prefix: its length, 0 for the key's own network


def in_force(partition: Partition, clock_ms: int) -> npt.NDArray[Any]:
    """The throttles that a partition's state has in force, those of keys and those of prefixes: IN_FORCE[], in no order."""
    keys = _of_keys(partition.state.rows, _waiting(partition, clock_ms))
    return np.concatenate([keys, _of_prefixes(partition, clock_ms)])


def in_shadow(partition: Partition, clock_ms: int, shadow: Shadow) -> npt.NDArray[Any]:
    """Those of them that fall in a shadow, by key and prefix."""
    if shadow.everything:
        return _in_order(in_force(partition, clock_ms))
    rows, numbers, prefixes = partition.state.rows, _waiting(partition, clock_ms), _of_prefixes(partition, clock_ms)
    keys, passed = _of_keys(rows, numbers), rows["flags"][numbers] & PASSED != 0
    fallen = [shadow.verdict(network_text(key, prefix), POOL) == SHADOW for key, prefix, _ in prefixes.tolist()]
    shaded = prefixes[np.array(fallen, np.bool_)]
    around = [network_text(key, prefix) for key, prefix, _ in shaded.tolist()]
    mine = held_by(shadow.networks, keys["key"], keys["prefix"])
    mine |= _may_be(rows["active_days"][numbers], rows["rate_per_h"][numbers], passed, shadow)
    mine |= passed & held_by(around, keys["key"], keys["prefix"])
    return _in_order(np.concatenate([keys[mine], shaded]))


def _may_be(
    days: npt.NDArray[Any], rate_per_h: npt.NDArray[Any], passed: npt.NDArray[np.bool_], shadow: Shadow
) -> npt.NDArray[np.bool_]:
    """Which rows' throttles may have been said for a reason in shadow. ``passed``: those that only stand against a prefix's."""
    young = days <= PROBATION_DAYS + 1  # a day may have closed since
    found = np.zeros(len(days), np.bool_)
    if VOLUME in shadow.reasons:
        found |= ~passed & (days > PROBATION_DAYS)
    if PROBATION in shadow.reasons:
        found |= ~passed & young
    if POOL in shadow.reasons:
        found |= passed | young & (rate_per_h <= POOL_RATE_PER_H)
    return found


def _waiting(partition: Partition, clock_ms: int) -> npt.NDArray[np.uint32]:
    """The numbers of the rows whose throttle is in force."""
    state = partition.state
    numbers = state.queue[: int(state.cursor["waiting"][0])]
    return numbers[state.rows["until_ms"][numbers] > clock_ms]


def _of_keys(rows: npt.NDArray[Any], numbers: npt.NDArray[np.uint32]) -> npt.NDArray[Any]:
    found = np.zeros(len(numbers), IN_FORCE)
    found["key"], found["until_ms"] = rows["key"][numbers], rows["until_ms"][numbers]
    return found


def _in_order(found: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return found[np.lexsort((found["prefix"], found["key"]))]


def _of_prefixes(partition: Partition, clock_ms: int) -> npt.NDArray[Any]:
    flood = partition.state.flood
    ranks, sets, ways = np.nonzero(flood["until_ms"] > max(clock_ms, 0))  # 0 is none, also before the first event
    prefixes = flood[ranks, sets, ways]
    bits = np.where(prefixes["key"] >= np.uint64(IPV4_TAG), PREFIX_BITS_V4, PREFIX_BITS_V6)
    found = np.zeros(len(prefixes), IN_FORCE)
    found["key"], found["until_ms"] = prefixes["key"], prefixes["until_ms"]
    found["prefix"] = bits - np.array(PREFIX_SHIFTS, np.int64)[ranks]
    return found
