"""The active throttles of a partition's state, of keys and of prefixes, and those of them that are in shadow.

The state doesn't store a throttle's reason. A throttle whose reason is uncertain is in shadow if any possible reason is, so
rather too many throttles are withdrawn than too few: one at a pool's rate may have the reason pool, and one of a sender that
became known within the term may have either probation or volume.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.decisions.shadow import ShadowRules
from engine.detector.constants import POOL_RATE_PER_H, PREFIX_BITS_V4, PREFIX_BITS_V6, PREFIX_SHIFTS, PROBATION_DAYS
from engine.detector.layout import PASSED
from engine.state.partition import Partition
from topics.columns.keys import keys_inside
from topics.decisions import POOL, PROBATION, SHADOW, VOLUME
from topics.keys import IPV4_TAG
from topics.networks import network_of, network_of_key

ACTIVE = np.dtype(
    [
        ("key", "u8"),
        ("prefix", "i8"),  # length of the throttled prefix around the key, 0 for the key's own network
        ("until_ms", "i8"),
    ]
)


def active_throttles(partition: Partition, clock_ms: int) -> npt.NDArray[Any]:
    """Return the active throttles of keys and of prefixes as ACTIVE[], in no order."""
    keys = _key_throttles(partition.state.rows, _throttled_slots(partition, clock_ms))
    return np.concatenate([keys, _prefix_throttles(partition, clock_ms)])


def active_in_shadow(partition: Partition, clock_ms: int, shadow: ShadowRules) -> npt.NDArray[Any]:
    """Return the active throttles that are in shadow under these rules as ACTIVE[], by key and prefix."""
    if shadow.everything:
        return sort_throttles(active_throttles(partition, clock_ms))
    rows, slots = partition.state.rows, _throttled_slots(partition, clock_ms)
    keys, passed = _key_throttles(rows, slots), rows["flags"][slots] & PASSED != 0
    prefixes = _prefix_throttles(partition, clock_ms)
    prefix_networks = [network_of_key(key, prefix) for key, prefix, _ in prefixes.tolist()]
    is_shadowed = [shadow.verdict(str(network), POOL) == SHADOW for network in prefix_networks]
    shadowed_prefixes = [network for network, shadowed in zip(prefix_networks, is_shadowed, strict=True) if shadowed]
    in_shadow = keys_inside(map(network_of, shadow.networks), keys["key"], keys["prefix"])
    in_shadow |= _may_have_reason(rows["active_days"][slots], rows["rate_per_h"][slots], passed, shadow)
    in_shadow |= passed & keys_inside(shadowed_prefixes, keys["key"], keys["prefix"])
    return sort_throttles(np.concatenate([keys[in_shadow], prefixes[np.array(is_shadowed, np.bool_)]]))


def _may_have_reason(
    days: npt.NDArray[Any], rate_per_h: npt.NDArray[Any], passed: npt.NDArray[np.bool_], shadow: ShadowRules
) -> npt.NDArray[np.bool_]:
    """Return which rows' throttles may have a reason in shadow. ``passed``: rows that only pass a throttled prefix."""
    young = days <= PROBATION_DAYS + 1  # a day may have closed since the decision
    found = np.zeros(len(days), np.bool_)
    if VOLUME in shadow.reasons:
        found |= ~passed & (days > PROBATION_DAYS)
    if PROBATION in shadow.reasons:
        found |= ~passed & young
    if POOL in shadow.reasons:
        found |= passed | young & (rate_per_h <= POOL_RATE_PER_H)
    return found


def _throttled_slots(partition: Partition, clock_ms: int) -> npt.NDArray[np.uint32]:
    """Return the slots of the rows whose throttle is active."""
    state = partition.state
    slots = state.queue[: int(state.cursor["throttled"][0])]
    return slots[state.rows["until_ms"][slots] > clock_ms]


def _key_throttles(rows: npt.NDArray[Any], slots: npt.NDArray[np.uint32]) -> npt.NDArray[Any]:
    found = np.zeros(len(slots), ACTIVE)
    found["key"], found["until_ms"] = rows["key"][slots], rows["until_ms"][slots]
    return found


def _prefix_throttles(partition: Partition, clock_ms: int) -> npt.NDArray[Any]:
    table = partition.state.prefixes
    ranks, sets, ways = np.nonzero(
        table["until_ms"] > max(clock_ms, 0)
    )  # 0 is no throttle, even before the first event
    prefixes = table[ranks, sets, ways]
    bits = np.where(prefixes["key"] >= np.uint64(IPV4_TAG), PREFIX_BITS_V4, PREFIX_BITS_V6)
    found = np.zeros(len(prefixes), ACTIVE)
    found["key"], found["until_ms"] = prefixes["key"], prefixes["until_ms"]
    found["prefix"] = bits - np.array(PREFIX_SHIFTS, np.int64)[ranks]
    return found


def sort_throttles(throttles: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ACTIVE[] in the order of publication: by key and prefix."""
    return throttles[np.lexsort((throttles["prefix"], throttles["key"]))]
