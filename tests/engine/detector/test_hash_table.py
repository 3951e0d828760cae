"""The hash table, compared with a dict, also for keys that collide on purpose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.detector.hash_table import NO_ROW, SEED, find_or_insert
from engine.detector.layout import State, empty_state
from tests.support.kernels import find_one, hash_one
from tests.support.sequences import IPV4_TAG

CAPACITY = 1024
WORD = (1 << 64) - 1
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mixed(key: int, seed: int) -> int:
    """Return splitmix64's finaliser of key XOR seed, by its definition."""
    x = key ^ seed
    x = (x ^ x >> 30) * FIRST & WORD
    x = (x ^ x >> 27) * SECOND & WORD
    return x ^ x >> 31


def unshift(x: int, by: int) -> int:
    """Return the y of which x is y ^ y >> by."""
    y = x
    for _ in range(64 // by + 1):
        y = x ^ y >> by
    return y


def key_with(hashed: int, seed: int) -> int:
    """Return the key that has this hash, by inverting the finaliser."""
    x = unshift(hashed, 31) * pow(SECOND, -1, 1 << 64) & WORD
    x = unshift(x, 27) * pow(FIRST, -1, 1 << 64) & WORD
    return unshift(x, 30) ^ seed


def insert(state: State, keys: list[int], seed: int) -> tuple[int, list[int]]:
    numbers = np.full(len(keys), -7, np.int64)
    stored = find_or_insert(state, np.array(keys, np.uint64), np.uint64(seed), numbers)
    return stored, numbers[:stored].tolist()


def number_of(state: State, key: int, seed: int) -> int:
    return find_one(state, np.uint64(key), np.uint64(seed))


@given(st.integers(0, WORD), st.integers(0, WORD))
def test_hash_equals_splitmix64_and_can_be_inverted(key: int, seed: int) -> None:
    assert int(hash_one(np.uint64(key), np.uint64(seed))) == mixed(key, seed)
    assert key_with(mixed(key, seed), seed) == key


KEYS = st.integers(0, WORD) | st.integers(0, 30).map(lambda i: IPV4_TAG + i) | st.integers(0, 10)


@settings(max_examples=50)
@given(st.lists(KEYS, max_size=200), st.integers(0, WORD))
def test_key_keeps_the_row_of_its_first_insertion(keys: list[int], seed: int) -> None:
    state, rows = empty_state(CAPACITY), dict[int, int]()

    for key in keys:
        assert number_of(state, key, seed) == rows.get(key, NO_ROW)
        expected = rows.setdefault(key, len(rows))
        assert insert(state, [key], seed) == (1, [expected])
    assert state.rows["key"][: len(rows)].tolist() == list(rows)
    assert int(state.cursor["rows"][0]) == len(rows)


@pytest.mark.parametrize("tags", [1, 2])
def test_colliding_keys_get_rows_of_their_own(tags: int) -> None:
    """All hashes have the same index slot and, with one tag, the same tag: the choice of an attacker that knows the seed."""
    seed = 0x0123456789ABCDEF
    hashes = [(i % tags) << 59 | (i + 1) << 20 | 2046 for i in range(CAPACITY)]
    keys = [key_with(hashed, seed) for hashed in hashes]

    state = empty_state(CAPACITY)

    assert insert(state, keys, seed) == (CAPACITY, list(range(CAPACITY)))
    assert [number_of(state, key, seed) for key in keys] == list(range(CAPACITY))
    assert number_of(state, key_with(2046, seed), seed) == NO_ROW


def test_full_table_accepts_no_new_key_and_finds_the_old_ones() -> None:
    state, keys = empty_state(CAPACITY), list(range(7, 7 + CAPACITY))

    assert insert(state, [*keys[:-1], keys[0]], 5)[0] == CAPACITY
    assert insert(state, [keys[-1], WORD, keys[3]], 5) == (1, [CAPACITY - 1])
    assert insert(state, [keys[3], WORD], 5) == (1, [3])
    assert number_of(state, WORD, 5) == NO_ROW
    assert state.rows["key"].tolist() == keys


def test_row_numbers_do_not_depend_on_the_seed() -> None:
    assert 0 <= int(SEED) <= WORD

    orders = set()
    for seed in (0, 1, WORD):
        state = empty_state(CAPACITY)
        orders.add(tuple(insert(state, [5, WORD, 0, 5, IPV4_TAG], seed)[1]))

    assert orders == {(0, 1, 2, 0, 3)}


@pytest.mark.parametrize("capacity", [0, 8, 1000, 1025, 1 << 27])
def test_capacity_that_is_no_power_of_two_within_limits_is_an_error(capacity: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        empty_state(capacity)
