"""Inlined functions of the kernels, made callable one by one for the tests, and cached like kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.detector.admission import seen_before
from engine.detector.baseline import close_day
from engine.detector.cohort import add_newcomer, bin_of, quantile, read_quantiles, update_newcomer
from engine.detector.counters import count_event
from engine.detector.eviction import horizon
from engine.detector.expiry import pop, push, remove
from engine.detector.hash_table import find, hash_key
from engine.detector.limits import limit
from engine.detector.pool_table import use_pool
from engine.detector.relays import relay_of
from topics.columns.jit import kernel
from topics.columns.keys import murmur2, parse_key, write_ipv6, write_key
from topics.columns.scan import scan_event


def byte_array(text: bytes) -> npt.NDArray[np.uint8]:
    """The bytes as kernels get them: uint8, not to be written to."""
    return np.frombuffer(text, np.uint8)


@kernel
def scan_one(text: Any, start: int, end: int, columns: Any) -> int:
    """`scan_event` of `text[start:end]` into the first event."""
    return scan_event(text, start, end, columns, 0)


@kernel
def parse_one_key(text: Any, start: int, end: int) -> Any:
    """`parse_key`: (understood, key)."""
    return parse_key(text, start, end)


@kernel
def write_one_key(key: Any, out: Any) -> int:
    """`write_key` to the start of `out`: bytes written."""
    return write_key(key, out, 0)


@kernel
def write_one_ipv6(high: Any, low: Any, out: Any) -> int:
    """`write_ipv6` to the start of `out`: bytes written."""
    return write_ipv6(high, low, out, 0)


@kernel
def murmur2_of(text: Any) -> Any:
    """`murmur2` of a whole array."""
    return murmur2(text, text.shape[0])


@kernel
def hash_one(key: Any, seed: Any) -> Any:
    """`hash_key`."""
    return hash_key(key, seed)


@kernel
def find_one(state: Any, key: Any, seed: Any) -> int:
    """`find`: the key's row number, -1 without one."""
    return find(state, key, hash_key(key, seed))


@kernel
def count_one(state: Any, number: int, t_ms: int, messages: int, outcome: int) -> None:
    """`count_event` on a row."""
    count_event(state.rows[number], t_ms, messages, outcome)


@kernel
def close_one(state: Any, number: int, today: int) -> None:
    """`close_day` of a row."""
    close_day(state.rows[number], state.site[0], today)


@kernel
def limits_of(state: Any, number: int, threshold: float, out: Any) -> None:
    """`limit` of a row at every scale."""
    for s in range(out.shape[0]):
        out[s] = limit(state.rows[number], state.site[0], s, threshold)


@kernel
def bin_of_one(peak: float) -> int:
    """`bin_of`."""
    return bin_of(peak)


@kernel
def quantile_of(state: Any, scale: int, share: float) -> float:
    """`quantile` of the site's histogram."""
    return quantile(state.site[0].cohort_hist, scale, share)


@kernel
def read_site(state: Any) -> None:
    """`read_quantiles` of the site."""
    read_quantiles(state.site[0])


@kernel
def add_newcomer_one(state: Any, number: int, t_ms: int) -> None:
    """`add_newcomer` with a row."""
    add_newcomer(state.site[0], state.rows[number], t_ms)


@kernel
def update_newcomer_one(state: Any, number: int) -> None:
    """`update_newcomer` with a row."""
    update_newcomer(state.site[0], state.rows[number])


@kernel
def horizon_of(kept: Any, clock_ms: int, wanted: int, bins: Any) -> int:
    """`horizon` of a whole array."""
    return horizon(kept, kept.shape[0], clock_ms, wanted, bins)


@kernel
def seen_before_each(state: Any, keys: Any, known: Any) -> None:
    """`seen_before` of each key, one after the other; the results go to `known`."""
    for i in range(keys.shape[0]):
        known[i] = seen_before(state, keys[i])


@kernel
def push_one(state: Any, number: int, until_ms: int) -> None:
    """`push` of a row."""
    push(state, number, until_ms)


@kernel
def remove_one(state: Any, row: int) -> None:
    """`remove`."""
    remove(state, row)


@kernel
def pop_one(state: Any) -> int:
    """`pop`: a row number."""
    return pop(state)


@kernel
def relay_of_one(relays: Any, key: Any) -> Any:
    """`relay_of`: the pool key of a relay, or NO_RELAY."""
    return relay_of(relays, key)


@kernel
def use_one_pool(pools: Any, key: Any, last_use: int, slot: int) -> int:
    """`use_pool`: the pool's row number."""
    return use_pool(pools, key, last_use, slot)
