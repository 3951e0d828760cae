from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.detector.hash_table import NO_ROW, SEED, place_rows
from engine.detector.layout import State, empty_state
from tests.support.kernels import find_one, hash_one
from tests.support.sequences import IPV4_TAG

CAPACITY = 1024
WORD = (1 << 64) - 1
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mixed(key: int, seed: int) -> int:
    """splitmix64's finaliser of key XOR seed, by its definition."""
    x = key ^ seed
    x = (x ^ x >> 30) * FIRST & WORD
    x = (x ^ x >> 27) * SECOND & WORD
    return x ^ x >> 31


def unshift(x: int, by: int) -> int:
    found = x
    for _ in range(64 // by + 1):
        found = x ^ found >> by
    return found


def key_with(hashed: int, seed: int) -> int:
    """The key that has this hash: the finaliser backwards."""
    x = unshift(hashed, 31) * pow(SECOND, -1, 1 << 64) & WORD
    x = unshift(x, 27) * pow(FIRST, -1, 1 << 64) & WORD
    return unshift(x, 30) ^ seed


def place(state: State, keys: list[int], seed: int) -> tuple[int, list[int]]:
    numbers = np.full(len(keys), -7, np.int64)
    placed = place_rows(state, np.array(keys, np.uint64), np.uint64(seed), numbers)
    return placed, numbers[:placed].tolist()


def number_of(state: State, key: int, seed: int) -> int:
    return find_one(state, np.uint64(key), np.uint64(seed))


@given(st.integers(0, WORD), st.integers(0, WORD))
def test_the_hash_is_splitmix64s_and_can_be_undone(key: int, seed: int) -> None:
    assert int(hash_one(np.uint64(key), np.uint64(seed))) == mixed(key, seed)
    assert key_with(mixed(key, seed), seed) == key


KEYS = st.integers(0, WORD) | st.integers(0, 30).map(lambda i: IPV4_TAG + i) | st.integers(0, 10)


@settings(max_examples=50)
@given(st.lists(KEYS, max_size=200), st.integers(0, WORD))
def test_a_key_has_the_row_of_its_first_sight_as_in_a_dict(keys: list[int], seed: int) -> None:
    state, rows = empty_state(CAPACITY), dict[int, int]()
    for key in keys:
        assert number_of(state, key, seed) == rows.get(key, NO_ROW)
        expected = rows.setdefault(key, len(rows))
        assert place(state, [key], seed) == (1, [expected])
    assert state.rows["key"][: len(rows)].tolist() == list(rows)
    assert int(state.cursor["rows"][0]) == len(rows)


@pytest.mark.parametrize("tags", [1, 2])
def test_keys_that_were_chosen_to_collide_are_kept_apart(tags: int) -> None:
    """All hashes have the same place in the index and, with one tag, the same tag, as an attacker who knew the seed would."""
    seed = 0x0123456789ABCDEF
    hashes = [(i % tags) << 59 | (i + 1) << 20 | 2046 for i in range(CAPACITY)]
    keys = [key_with(hashed, seed) for hashed in hashes]
    state = empty_state(CAPACITY)
    assert place(state, keys, seed) == (CAPACITY, list(range(CAPACITY)))
    assert [number_of(state, key, seed) for key in keys] == list(range(CAPACITY))
    assert number_of(state, key_with(2046, seed), seed) == NO_ROW


def test_a_full_table_takes_no_new_key_and_still_finds_the_old_ones() -> None:
    state, keys = empty_state(CAPACITY), list(range(7, 7 + CAPACITY))
    assert place(state, [*keys[:-1], keys[0]], 5)[0] == CAPACITY
    assert place(state, [keys[-1], WORD, keys[3]], 5) == (1, [CAPACITY - 1])
    assert place(state, [keys[3], WORD], 5) == (1, [3])
    assert number_of(state, WORD, 5) == NO_ROW
    assert state.rows["key"].tolist() == keys


def test_every_start_of_the_program_has_a_seed_of_its_own_and_no_result_depends_on_it() -> None:
    assert 0 <= int(SEED) <= WORD
    orders = set()
    for seed in (0, 1, WORD):
        state = empty_state(CAPACITY)
        orders.add(tuple(place(state, [5, WORD, 0, 5, IPV4_TAG], seed)[1]))
    assert orders == {(0, 1, 2, 0, 3)}


@pytest.mark.parametrize("capacity", [0, 8, 1000, 1025, 1 << 27])
def test_a_capacity_is_a_power_of_two_within_limits(capacity: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        empty_state(capacity)
