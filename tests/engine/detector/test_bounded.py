"""A table that has an end: who gets the last rows, who loses them, and what the changelog is told."""

from __future__ import annotations

import numpy as np
import pytest

from engine.detector.constants import DOOR_KEYS
from engine.detector.layout import BYTES_A_ROW, DIRTY, LEAST_ROWS, STORED, empty_state, table_bytes
from engine.state.encode import Cut, take_cut
from engine.state.restore import Restoration
from tests.oracles.records import read_batches
from tests.support.fetches import Sent, by_aiokafka
from tests.support.kernels import knock_each
from tests.support.runs import add_fetch, fresh, restored, rows_of, state_of, wire_of
from tests.support.sequences import DAY_MS, HOUR_MS, IPV4_TAG, START_MS, Event, columns_of, far_apart
from topics.changelog import DOOR_KEY, FLOOD_KEY, SITE_KEY, BadState
from topics.columns.scan import ACCEPTED, DEFERRED

POOL_KEY_SIZE = 9
ROWS = 1024
DOOR = ROWS - ROWS // 16


class Mail:
    """Mail through a partition of few rows, a minute between events unless it is said otherwise."""

    def __init__(self, rows: int = ROWS) -> None:
        self.partition = fresh(rows=rows)
        self.now_ms, self.offset = START_MS, 0

    def send(self, *keys: int, messages: int = 1, gap_ms: int = 60_000, outcome: int = ACCEPTED) -> list[int]:
        """An event of each key; the keys of the verdicts."""
        events = []
        for key in keys:
            events.append(Event(self.offset, self.now_ms, -1, key, messages, outcome))
            self.offset, self.now_ms = self.offset + 1, self.now_ms + gap_ms
        found: list[int] = self.partition.apply(columns_of(events), 0, len(events))["key"].tolist()
        return found

    def know(self, *keys: int, days: int = 6) -> None:
        """Each of them once a day."""
        for _ in range(days):
            self.send(*keys, gap_ms=0)
            self.now_ms += DAY_MS

    @property
    def keys(self) -> set[int]:
        return set(rows_of(self.partition)["key"].tolist())

    def count(self, name: str) -> int:
        return int(self.partition.state.site[name][0])


def strangers(count: int, first: int = 0) -> list[int]:
    return [far_apart(100_000 + first + i) for i in range(count)]


def test_newcomers_get_rows_at_once_while_a_sixteenth_is_free_and_at_their_second_event_from_then_on() -> None:
    mail = Mail()
    mail.send(*strangers(DOOR))
    assert (mail.partition.keys, mail.count("untracked")) == (DOOR, 0)
    waiting = strangers(20, DOOR)
    mail.send(*waiting)
    assert (mail.partition.keys, mail.count("untracked")) == (DOOR, 20)
    mail.send(waiting[3], waiting[7])
    assert mail.keys == {*strangers(DOOR), waiting[3], waiting[7]}
    assert mail.count("untracked") == 20


def test_who_sends_more_at_once_than_a_newcomer_may_is_throttled_at_once() -> None:
    mail = Mail()
    mail.send(*strangers(DOOR))
    assert mail.send(*strangers(1, DOOR), messages=500) == strangers(1, DOOR)
    assert mail.send(*strangers(1, DOOR + 1), messages=500, outcome=DEFERRED) == []
    assert mail.partition.keys == DOOR + 1


def test_a_full_table_evicts_those_who_came_once_and_longest_ago() -> None:
    mail, known, throttled = Mail(), [IPV4_TAG + i for i in range(40)], IPV4_TAG + 99
    mail.know(*known)
    mail.send(throttled, messages=500)
    newcomers = strangers(ROWS - 41)
    mail.send(*newcomers, *newcomers[DOOR - 41 :], gap_ms=10)
    assert mail.partition.keys == ROWS
    late = strangers(1, ROWS)
    mail.send(*late, *late)
    assert mail.keys == {*known, throttled, *newcomers[ROWS // 16 :], *late}
    assert (mail.count("evicted"), mail.partition.keys) == (ROWS // 16, ROWS - ROWS // 16 + 1)


def test_established_senders_stay_whatever_comes_for_as_long_as_they_have_earned() -> None:
    mail, known = Mail(), [IPV4_TAG + i for i in range(40)]
    mail.know(*known)
    for first in range(0, 20 * ROWS, ROWS):
        mail.send(*np.repeat(strangers(ROWS, first), 2).tolist(), gap_ms=1000)
    assert mail.count("evicted") > 15 * ROWS
    assert set(known) <= mail.keys
    mail.now_ms += 61 * DAY_MS  # ten days for each of six active ones have gone by
    mail.send(*np.repeat(strangers(3 * ROWS, 30 * ROWS), 2).tolist(), gap_ms=1000)
    assert not set(known) & mail.keys


def test_a_table_full_of_established_senders_is_left_alone_and_tried_again_an_hour_later() -> None:
    mail, known = Mail(LEAST_ROWS), [IPV4_TAG + i for i in range(LEAST_ROWS)]
    mail.know(*known[:-1])
    mail.know(known[-1], known[-1])
    untracked = mail.count("untracked")
    mail.send(*strangers(5), *strangers(5))
    first_ms = mail.count("sweep_after_ms")
    assert (mail.keys, mail.count("evicted"), mail.count("untracked")) == (set(known), 0, untracked + 10)
    assert HOUR_MS - 600_000 < first_ms - mail.now_ms <= HOUR_MS
    mail.now_ms = first_ms
    mail.send(*strangers(1))
    assert mail.count("sweep_after_ms") == first_ms + HOUR_MS


def test_an_event_older_than_what_was_evicted_gets_no_row() -> None:
    mail = Mail(LEAST_ROWS)
    mail.send(*strangers(15), *np.repeat(strangers(2, 15), 2).tolist())
    assert mail.count("evicted") == 1
    kept, untracked = mail.keys, mail.count("untracked")
    mail.now_ms = mail.count("horizon_ms") - 1
    mail.send(*strangers(1, 50), *strangers(1, 50), messages=500, gap_ms=0)
    assert (mail.keys, mail.count("untracked")) == (kept, untracked + 2)


def test_the_door_knows_who_was_there_lets_few_others_in_and_forgets_everybody_after_so_many() -> None:
    state, keys = empty_state(ROWS), np.arange(4 * DOOR_KEYS, dtype=np.uint64)
    known = np.ones(len(keys), np.bool_)
    knock_each(state, keys[: DOOR_KEYS // 2], known)
    assert known[: DOOR_KEYS // 2].mean() < 0.001
    knock_each(state, keys[: DOOR_KEYS // 2], known)
    assert known[: DOOR_KEYS // 2].all()
    knock_each(state, keys[DOOR_KEYS:], known)
    assert known[: 3 * DOOR_KEYS].mean() < 0.01
    assert 0 < int(state.door["keys"][0]) < DOOR_KEYS
    knock_each(state, keys[: DOOR_KEYS // 2], known)
    assert known[: DOOR_KEYS // 2].mean() < 0.03


def records_of_cut(cut: Cut) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key, record.value) for batch in read_batches(wire_of([cut])) for record in batch.records]


def test_the_changelog_is_told_of_evicted_rows_that_it_has_before_it_gets_new_ones() -> None:
    mail = Mail(32)
    stored, unstored = strangers(20), strangers(12, 20)
    mail.send(*stored)
    take_cut(mail.partition, 1)
    mail.send(*np.repeat(unstored, 2).tolist(), *stored[18:])
    mail.send(*np.repeat(strangers(8, 32), 2).tolist())
    mail.send(stored[0], stored[0])
    records = records_of_cut(take_cut(mail.partition, 1))
    cut = [(key, value) for key, value in records if key and len(key) != POOL_KEY_SIZE]
    gone = [key for key, value in cut if value is None]
    written = [key for key, value in cut if value is not None and key not in (SITE_KEY, DOOR_KEY, FLOOD_KEY)]
    assert gone
    assert set(gone) <= {key.to_bytes(8, "big") for key in stored[:18]}
    assert stored[0].to_bytes(8, "big") in gone
    assert [value for _, value in cut[: len(gone)]] == [None] * len(gone)
    assert set(written) == {key.to_bytes(8, "big") for key in mail.keys} - {
        key.to_bytes(8, "big") for key in stored[1:18]
    }
    assert cut[-1][0] == SITE_KEY
    assert records_of_cut(take_cut(mail.partition, 1))[0][0] == SITE_KEY


def test_the_door_and_the_prefixes_are_written_when_they_have_changed() -> None:
    mail = Mail(LEAST_ROWS)
    mail.send(*strangers(15))
    assert {DOOR_KEY, FLOOD_KEY}.isdisjoint(key for key, _ in records_of_cut(take_cut(mail.partition, 1)))
    mail.send(*strangers(1, 15))
    cut = take_cut(mail.partition, 1)
    assert {DOOR_KEY, FLOOD_KEY} < {key for key, _ in records_of_cut(cut)}
    assert max(len(section.octets) for section in cut.sections) < 1_000_000
    assert len(take_cut(mail.partition, 1).sections) == 1


def test_tombstones_that_do_not_fit_are_written_after_the_next_restoration() -> None:
    mail, changelog = Mail(64), list[Cut]()
    for first in range(0, 640, 64):
        mail.send(*np.repeat(strangers(64, first), 2).tolist(), gap_ms=1000)
        if first % 128:
            changelog.append(take_cut(mail.partition, 1))
    mail.send(*np.repeat(strangers(64, 640), 2).tolist(), gap_ms=1000)
    assert mail.partition.state.cursor["gone"][0] == len(mail.partition.state.gone) == 8
    changelog.append(take_cut(mail.partition, 1))
    again = restored(changelog, fresh(rows=64))
    assert state_of(again) == state_of(mail.partition)
    assert again.state.cursor["gone"][0] > 0
    told = records_of_cut(take_cut(again, 2))
    alive = {key.to_bytes(8, "big") for key in mail.keys}
    assert alive.isdisjoint(key for key, value in told if value is None)


def test_a_changelog_may_hold_more_keys_than_the_table_and_its_reader_goes_on_with_it() -> None:
    mail, changelog = Mail(64), list[Cut]()
    for first in range(0, 512, 32):
        mail.send(*np.repeat(strangers(32, first), 2).tolist(), gap_ms=1000)
        changelog.append(take_cut(mail.partition, 1))
    last = {key: value for cut in changelog for key, value in records_of_cut(cut) if value is not None}
    restoration = Restoration(fresh(rows=64))
    add_fetch(restoration, by_aiokafka([Sent(0, key, value) for key, value in last.items()], "lz4"))
    restoration.finish()
    assert state_of(restoration.partition) == state_of(mail.partition)
    mail.send(*np.repeat(strangers(40, 512), 2).tolist(), gap_ms=1000)
    for cut in (take_cut(mail.partition, 2), take_cut(mail.partition, 3)):
        add_fetch(restoration, wire_of([cut]))
    restoration.finish()
    assert state_of(restoration.partition) == state_of(mail.partition)
    flags = restoration.partition.state.rows["flags"][: restoration.partition.keys]
    assert set((flags & (DIRTY | STORED)).tolist()) == {STORED}


def test_a_table_that_can_not_hold_all_that_is_alive_says_which_option_to_raise() -> None:
    mail = Mail(64)
    mail.send(*strangers(40))
    with pytest.raises(BadState, match=r"more keys than its table holds \(32\): raise worker.rows_per_partition to 64"):
        restored([take_cut(mail.partition, 1)], fresh(rows=32))


def test_memory_is_what_is_announced() -> None:
    state = empty_state(1 << 14)
    cursors = state.cursor.nbytes + state.pools.cursor.nbytes
    assert sum(part.nbytes for part in (*state[:-1], *state.pools)) - table_bytes(1 << 14) == cursors
    assert BYTES_A_ROW <= 145


def established_in_a_prefix() -> tuple[Mail, int]:
    """A full table and a sender of six active days in 198.51.0.0/16, which is then flooded until it is throttled."""
    mail, known = Mail(LEAST_ROWS), IPV4_TAG + 0xC633640A
    mail.know(known)
    mail.send(*strangers(14), gap_ms=1)
    flood = [IPV4_TAG + 0xC6330000 + 256 * (i % 256) + i // 256 for i in range(1, 1500)]
    assert IPV4_TAG + 0xC6330000 in mail.send(*flood, gap_ms=10)
    return mail, known


def test_a_known_sender_in_a_throttled_prefix_goes_on_at_the_hourly_limit_that_it_has_earned() -> None:
    mail, known = established_in_a_prefix()
    (passed,) = mail.partition.apply(columns_of([Event(mail.offset, mail.now_ms, -1, known, 1, DEFERRED)]), 0, 1)
    assert (passed["key"], passed["prefix"], passed["within"], passed["scales"]) == (known, 0, 16, 0)
    assert passed["rate_per_h"] == pytest.approx(passed["limit"][0])
    assert passed["until_ms"] == mail.partition.state.flood["until_ms"].max()
    mail.offset += 1
    assert mail.send(known, known) == []


def test_the_excess_of_a_known_sender_is_held_in_a_throttled_prefix_as_well() -> None:
    mail, known = established_in_a_prefix()
    assert mail.send(known) == [known]
    (held,) = mail.partition.apply(columns_of([Event(mail.offset, mail.now_ms, -1, known, 900, ACCEPTED)]), 0, 1)
    assert (held["within"], held["scales"] > 0) == (0, True)
    assert held["rate_per_h"] < held["limit"][0] / 2
