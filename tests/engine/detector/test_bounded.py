"""A table of limited size: admission to its last rows, eviction, and the tombstones in the changelog."""

from __future__ import annotations

import numpy as np
import pytest

from engine.detector.constants import FILTER_KEYS
from engine.detector.layout import BYTES_A_ROW, DIRTY, LEAST_ROWS, STORED, empty_state, table_bytes
from engine.state.encode import Cut, cut_state
from engine.state.restore import Restoration
from tests.oracles.records import read_batches
from tests.support.fetches import Sent, by_aiokafka
from tests.support.kernels import seen_before_each
from tests.support.runs import add_fetch, fresh, restored, rows_of, state_of, wire_of
from tests.support.sequences import DAY_MS, HOUR_MS, IPV4_TAG, START_MS, Event, columns_of, far_apart
from topics.changelog import FILTER_KEY, PREFIX_KEY, SITE_KEY, BadState
from topics.columns.scan import ACCEPTED, DEFERRED

POOL_KEY_SIZE = 9
ROWS = 1024
FREE_FROM = ROWS - ROWS // 16  # from this many rows on, the admission filter decides


class Mail:
    """Sends mail through a partition of few rows, a minute between events by default."""

    def __init__(self, rows: int = ROWS) -> None:
        self.partition = fresh(rows=rows)
        self.now_ms, self.offset = START_MS, 0

    def send(self, *keys: int, messages: int = 1, gap_ms: int = 60_000, outcome: int = ACCEPTED) -> list[int]:
        """Send one event of each key. Return the keys of the verdicts."""
        events = []
        for key in keys:
            events.append(Event(self.offset, self.now_ms, -1, key, messages, outcome))
            self.offset, self.now_ms = self.offset + 1, self.now_ms + gap_ms
        throttled: list[int] = self.partition.apply(columns_of(events), 0, len(events))["key"].tolist()
        return throttled

    def send_daily(self, *keys: int, days: int = 6) -> None:
        """Send one event of each key a day."""
        for _ in range(days):
            self.send(*keys, gap_ms=0)
            self.now_ms += DAY_MS

    @property
    def keys(self) -> set[int]:
        return set(rows_of(self.partition)["key"].tolist())

    def count(self, name: str) -> int:
        return int(self.partition.state.site[name][0])


def newcomers(count: int, first: int = 0) -> list[int]:
    """Return keys of new senders."""
    return [far_apart(100_000 + first + i) for i in range(count)]


def test_newcomer_gets_a_row_at_its_second_event_once_fifteen_sixteenths_are_taken() -> None:
    mail = Mail()

    mail.send(*newcomers(FREE_FROM))

    assert (mail.partition.keys, mail.count("untracked")) == (FREE_FROM, 0)

    waiting = newcomers(20, FREE_FROM)
    mail.send(*waiting)

    assert (mail.partition.keys, mail.count("untracked")) == (FREE_FROM, 20)

    mail.send(waiting[3], waiting[7])

    assert mail.keys == {*newcomers(FREE_FROM), waiting[3], waiting[7]}
    assert mail.count("untracked") == 20


def test_event_above_a_newcomers_limit_is_throttled_immediately() -> None:
    mail = Mail()

    mail.send(*newcomers(FREE_FROM))

    assert mail.send(*newcomers(1, FREE_FROM), messages=500) == newcomers(1, FREE_FROM)
    assert mail.send(*newcomers(1, FREE_FROM + 1), messages=500, outcome=DEFERRED) == []
    assert mail.partition.keys == FREE_FROM + 1


def test_full_table_evicts_the_oldest_newcomers() -> None:
    mail, known, throttled = Mail(), [IPV4_TAG + i for i in range(40)], IPV4_TAG + 99
    mail.send_daily(*known)
    mail.send(throttled, messages=500)
    early = newcomers(ROWS - 41)

    mail.send(*early, *early[FREE_FROM - 41 :], gap_ms=10)

    assert mail.partition.keys == ROWS

    late = newcomers(1, ROWS)
    mail.send(*late, *late)

    assert mail.keys == {*known, throttled, *early[ROWS // 16 :], *late}
    assert (mail.count("evicted"), mail.partition.keys) == (ROWS // 16, ROWS - ROWS // 16 + 1)


def test_established_senders_stay_until_their_retention_ends() -> None:
    mail, known = Mail(), [IPV4_TAG + i for i in range(40)]
    mail.send_daily(*known)

    for first in range(0, 20 * ROWS, ROWS):
        mail.send(*np.repeat(newcomers(ROWS, first), 2).tolist(), gap_ms=1000)

    assert mail.count("evicted") > 15 * ROWS
    assert set(known) <= mail.keys

    mail.now_ms += 61 * DAY_MS  # ten days for each of six active days are over
    mail.send(*np.repeat(newcomers(3 * ROWS, 30 * ROWS), 2).tolist(), gap_ms=1000)

    assert not set(known) & mail.keys


def test_table_full_of_established_senders_is_swept_again_an_hour_later() -> None:
    mail, known = Mail(LEAST_ROWS), [IPV4_TAG + i for i in range(LEAST_ROWS)]
    mail.send_daily(*known[:-1])
    mail.send_daily(known[-1], known[-1])
    untracked = mail.count("untracked")
    mail.send(*newcomers(5), *newcomers(5))

    first_ms = mail.count("eviction_retry_ms")

    assert (mail.keys, mail.count("evicted"), mail.count("untracked")) == (set(known), 0, untracked + 10)
    assert HOUR_MS - 600_000 < first_ms - mail.now_ms <= HOUR_MS

    mail.now_ms = first_ms
    mail.send(*newcomers(1))

    assert mail.count("eviction_retry_ms") == first_ms + HOUR_MS


def test_event_older_than_the_eviction_horizon_gets_no_row() -> None:
    mail = Mail(LEAST_ROWS)

    mail.send(*newcomers(15), *np.repeat(newcomers(2, 15), 2).tolist())

    assert mail.count("evicted") == 1

    kept, untracked = mail.keys, mail.count("untracked")
    mail.now_ms = mail.count("eviction_horizon_ms") - 1
    mail.send(*newcomers(1, 50), *newcomers(1, 50), messages=500, gap_ms=0)

    assert (mail.keys, mail.count("untracked")) == (kept, untracked + 2)


def test_admission_filter_knows_its_keys_and_is_cleared_when_full() -> None:
    state, keys = empty_state(ROWS), np.arange(4 * FILTER_KEYS, dtype=np.uint64)
    known = np.ones(len(keys), np.bool_)

    seen_before_each(state, keys[: FILTER_KEYS // 2], known)

    assert known[: FILTER_KEYS // 2].mean() < 0.001

    seen_before_each(state, keys[: FILTER_KEYS // 2], known)

    assert known[: FILTER_KEYS // 2].all()

    seen_before_each(state, keys[FILTER_KEYS:], known)

    assert known[: 3 * FILTER_KEYS].mean() < 0.01
    assert 0 < int(state.admission_filter["keys"][0]) < FILTER_KEYS

    seen_before_each(state, keys[: FILTER_KEYS // 2], known)

    assert known[: FILTER_KEYS // 2].mean() < 0.03


def records_of_cut(cut: Cut) -> list[tuple[bytes | None, bytes | None]]:
    """Return keys and values of a cut's records."""
    return [(record.key, record.value) for batch in read_batches(wire_of([cut])) for record in batch.records]


def test_cut_has_tombstones_of_stored_evicted_rows_before_new_rows() -> None:
    mail = Mail(32)
    stored, unstored = newcomers(20), newcomers(12, 20)
    mail.send(*stored)
    cut_state(mail.partition, 1)
    mail.send(*np.repeat(unstored, 2).tolist(), *stored[18:])
    mail.send(*np.repeat(newcomers(8, 32), 2).tolist())
    mail.send(stored[0], stored[0])
    records = records_of_cut(cut_state(mail.partition, 1))
    cut = [(key, value) for key, value in records if key and len(key) != POOL_KEY_SIZE]
    buried = [key for key, value in cut if value is None]

    written = [key for key, value in cut if value is not None and key not in (SITE_KEY, FILTER_KEY, PREFIX_KEY)]

    assert buried
    assert set(buried) <= {key.to_bytes(8, "big") for key in stored[:18]}
    assert stored[0].to_bytes(8, "big") in buried
    assert [value for _, value in cut[: len(buried)]] == [None] * len(buried)
    assert set(written) == {key.to_bytes(8, "big") for key in mail.keys} - {
        key.to_bytes(8, "big") for key in stored[1:18]
    }
    assert cut[-1][0] == SITE_KEY
    assert records_of_cut(cut_state(mail.partition, 1))[0][0] == SITE_KEY


def test_filter_and_prefixes_are_written_when_changed() -> None:
    mail = Mail(LEAST_ROWS)

    mail.send(*newcomers(15))

    assert {FILTER_KEY, PREFIX_KEY}.isdisjoint(key for key, _ in records_of_cut(cut_state(mail.partition, 1)))

    mail.send(*newcomers(1, 15))
    cut = cut_state(mail.partition, 1)

    assert {FILTER_KEY, PREFIX_KEY} < {key for key, _ in records_of_cut(cut)}
    assert max(len(section.records) for section in cut.sections) < 1_000_000
    assert len(cut_state(mail.partition, 1).sections) == 1


def test_tombstones_that_do_not_fit_are_written_after_the_next_restore() -> None:
    mail, changelog = Mail(64), list[Cut]()
    for first in range(0, 640, 64):
        mail.send(*np.repeat(newcomers(64, first), 2).tolist(), gap_ms=1000)
        if first % 128:
            changelog.append(cut_state(mail.partition, 1))

    mail.send(*np.repeat(newcomers(64, 640), 2).tolist(), gap_ms=1000)

    assert mail.partition.state.cursor["tombstones"][0] == len(mail.partition.state.tombstones) == 8

    changelog.append(cut_state(mail.partition, 1))
    again = restored(changelog, fresh(rows=64))

    assert state_of(again) == state_of(mail.partition)
    assert again.state.cursor["tombstones"][0] > 0

    records = records_of_cut(cut_state(again, 2))
    alive = {key.to_bytes(8, "big") for key in mail.keys}

    assert alive.isdisjoint(key for key, value in records if value is None)


def test_changelog_with_more_keys_than_the_table_is_restored() -> None:
    mail, changelog = Mail(64), list[Cut]()
    for first in range(0, 512, 32):
        mail.send(*np.repeat(newcomers(32, first), 2).tolist(), gap_ms=1000)
        changelog.append(cut_state(mail.partition, 1))
    last = {key: value for cut in changelog for key, value in records_of_cut(cut) if value is not None}
    restoration = Restoration(fresh(rows=64))
    add_fetch(restoration, by_aiokafka([Sent(0, key, value) for key, value in last.items()], "lz4"))

    restoration.finish()

    assert state_of(restoration.partition) == state_of(mail.partition)

    mail.send(*np.repeat(newcomers(40, 512), 2).tolist(), gap_ms=1000)
    for cut in (cut_state(mail.partition, 2), cut_state(mail.partition, 3)):
        add_fetch(restoration, wire_of([cut]))
    restoration.finish()

    assert state_of(restoration.partition) == state_of(mail.partition)

    flags = restoration.partition.state.rows["flags"][: restoration.partition.keys]

    assert set((flags & (DIRTY | STORED)).tolist()) == {STORED}


def test_table_too_small_for_live_keys_is_an_error_that_names_the_option() -> None:
    mail = Mail(64)
    mail.send(*newcomers(40))
    with pytest.raises(BadState, match=r"more keys than its table holds \(32\): raise worker.rows_per_partition to 64"):
        restored([cut_state(mail.partition, 1)], fresh(rows=32))


def test_memory_equals_table_bytes() -> None:
    state = empty_state(1 << 14)

    cursors = state.cursor.nbytes + state.pools.cursor.nbytes

    assert sum(part.nbytes for part in (*state[:-1], *state.pools)) - table_bytes(1 << 14) == cursors
    assert BYTES_A_ROW <= 145


def established_in_a_prefix() -> tuple[Mail, int]:
    """Return a full table and a sender of six active days in 198.51.0.0/16, which was flooded until it was throttled."""
    mail, known = Mail(LEAST_ROWS), IPV4_TAG + 0xC633640A
    mail.send_daily(known)
    mail.send(*newcomers(14), gap_ms=1)
    flood = [IPV4_TAG + 0xC6330000 + 256 * (i % 256) + i // 256 for i in range(1, 1500)]
    assert IPV4_TAG + 0xC6330000 in mail.send(*flood, gap_ms=10)
    return mail, known


def test_known_sender_in_a_throttled_prefix_continues_at_its_own_hourly_limit() -> None:
    mail, known = established_in_a_prefix()

    (passed,) = mail.partition.apply(columns_of([Event(mail.offset, mail.now_ms, -1, known, 1, DEFERRED)]), 0, 1)

    assert (passed["key"], passed["prefix"], passed["within"], passed["scales"]) == (known, 0, 16, 0)
    assert passed["rate_per_h"] == pytest.approx(passed["limit"][0])
    assert passed["until_ms"] == mail.partition.state.prefixes["until_ms"].max()

    mail.offset += 1

    assert mail.send(known, known) == []


def test_excess_of_a_known_sender_in_a_throttled_prefix_is_throttled() -> None:
    mail, known = established_in_a_prefix()

    assert mail.send(known) == [known]

    (throttle,) = mail.partition.apply(columns_of([Event(mail.offset, mail.now_ms, -1, known, 900, ACCEPTED)]), 0, 1)

    assert (throttle["within"], throttle["scales"] > 0) == (0, True)
    assert throttle["rate_per_h"] < throttle["limit"][0] / 2
