"""Cuts as changelog records, and the way back: order, batches, errors."""

from __future__ import annotations

import numpy as np
import pytest

from engine.detector.layout import DIRTY, ROW, SITE, STATE_VERSION, THROTTLED
from engine.state.encode import ROWS_A_BATCH, Cut, cut_state
from engine.state.partition import Partition
from engine.state.restore import Restoration
from tests.oracles.records import crc32c, read_batches
from tests.support.fetches import Sent, by_aiokafka
from tests.support.runs import add_fetch, fresh, restored, state_of, wire_of
from tests.support.sequences import HOUR_MS, IPV4_TAG, START_MS, Event, columns_of, rich_sequence
from topics.changelog import HEAD, POOL_KIND, ROW_KIND, SITE_KEY, BadState
from topics.columns.batchwrite import ColumnBatch
from topics.columns.scan import ACCEPTED


def feed(partition: Partition, events: list[Event]) -> Partition:
    partition.apply(columns_of(events), 0, len(events))
    return partition


def newcomers(count: int, first_offset: int = 0) -> list[Event]:
    return [Event(first_offset + i, START_MS + i, -1, IPV4_TAG + i, 1, ACCEPTED) for i in range(count)]


def pool_key(key: int, level: int) -> bytes:
    """Return the key of a pool, big-endian: its level, then the rest of the address key."""
    return (level << 56 | key >> 8 * level).to_bytes(8, "big")


def values_of(cut: Cut) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key, record.value) for batch in read_batches(wire_of([cut])) for record in batch.records]


def test_row_with_its_index_slots_has_128_bytes_at_most() -> None:
    assert ROW.itemsize + 8 <= 128
    assert (ROW.itemsize % 8, SITE.itemsize % 8) == (0, 0)


def test_cut_has_the_changed_rows_their_pools_and_then_the_site() -> None:
    partition = feed(fresh(), newcomers(5))

    first = cut_state(partition, 1)

    assert (first.rows, first.applied_offset, partition.dirty) == (5, 4, 0)

    feed(partition, [Event(9, START_MS + 9, -1, IPV4_TAG + 3, 1, ACCEPTED)])
    second = cut_state(partition, 1)
    key = (IPV4_TAG + 3).to_bytes(8, "big")
    pools = [bytes([POOL_KIND]) + pool_key(IPV4_TAG + 3, level) for level in (2, 1)]

    assert [record[0] for record in values_of(second)] == [key, *pools, SITE_KEY]
    assert (second.rows, second.applied_offset) == (1, 9)


def test_cut_of_an_idle_partition_is_its_site_alone() -> None:
    assert [record[0] for record in values_of(cut_state(fresh(), 1))] == [SITE_KEY]


def test_expired_throttle_is_a_changed_row() -> None:
    partition = feed(fresh(), [Event(0, START_MS, -1, IPV4_TAG, 100, ACCEPTED)])
    cut_state(partition, 1)

    feed(partition, [Event(1, START_MS + 2 * HOUR_MS, -1, IPV4_TAG + 1, 1, ACCEPTED)])

    assert cut_state(partition, 1).rows == 2


def test_large_cut_has_batches_within_the_brokers_limit() -> None:
    count = 2 * ROWS_A_BATCH + 1
    cut = cut_state(feed(fresh(rows=16_384), newcomers(count)), 1)

    pools = -(-count // 256) + 1  # /24s, and the /16 that holds them

    assert [section.count for section in cut.sections] == [ROWS_A_BATCH, ROWS_A_BATCH, 1, pools, 1]
    assert max(len(section.records) for section in cut.sections) < 1_000_000
    assert restored([cut], fresh(rows=16_384)).keys == count


def test_restore_returns_the_epoch_of_the_last_writer() -> None:
    partition = feed(fresh(), newcomers(1))
    changelog = [cut_state(partition, epoch) for epoch in (4, 5)]
    restoration = Restoration(fresh())
    add_fetch(restoration, wire_of(changelog))

    restoration.finish()

    assert (restoration.epoch, restoration.rows) == (5, 1)
    assert restored([], fresh()).applied_offset == -1


def test_restore_does_not_depend_on_fetches_and_compaction() -> None:
    partition, cuts = fresh(rows=4096), []
    for first in range(0, 3000, 300):
        feed(partition, rich_sequence(3, 3000)[first : first + 300])
        cuts.append(cut_state(partition, 1))
    whole = state_of(restored(cuts, fresh(rows=4096)))
    apart, compacted = Restoration(fresh(rows=4096)), Restoration(fresh(rows=4096))
    for cut in cuts:
        add_fetch(apart, wire_of([cut]))
    apart.finish()
    last = {key: value for cut in cuts for key, value in values_of(cut)}
    add_fetch(compacted, by_aiokafka([Sent(0, key, value) for key, value in last.items()], "zstd"))

    compacted.finish()

    assert whole == state_of(partition) == state_of(apart.partition) == state_of(compacted.partition)


def test_tombstones_are_skipped() -> None:
    cut = cut_state(feed(fresh(), newcomers(2)), 1)
    sent = [
        Sent(0, b"12345678", None),
        *(Sent(0, key, value) for key, value in values_of(cut)),
        Sent(0, SITE_KEY, None),
    ]
    restoration = Restoration(fresh())

    add_fetch(restoration, by_aiokafka(sent))

    assert restoration.partition.keys == 2


def test_restored_rows_are_clean_and_queued_again() -> None:
    partition = feed(fresh(), [Event(0, START_MS, -1, IPV4_TAG, 100, ACCEPTED), *newcomers(3, 1)])

    again = restored([cut_state(partition, 1)], fresh())

    assert (again.dirty, int(again.state.cursor["throttled"][0])) == (0, 1)

    rows = again.state.rows[: again.keys]

    assert not (rows["flags"] & DIRTY).any()
    assert rows["key"][(rows["flags"] & THROTTLED) > 0].tolist() == [IPV4_TAG]


def refusal(value: bytes, rows: int = 1024) -> str:
    """Return the error about a changelog whose record at offset 1 has this value."""
    good = values_of(cut_state(feed(fresh(), newcomers(1)), 1))[0]
    restoration = Restoration(fresh(rows=rows))
    with pytest.raises(BadState) as raised:
        add_fetch(restoration, by_aiokafka([Sent(0, *good), Sent(0, b"x", value)]))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def value_of(row: bytes, version: int = STATE_VERSION) -> bytes:
    blank = HEAD.pack(version, ROW_KIND, 1, 0, len(row)) + row
    return HEAD.pack(version, ROW_KIND, 1, crc32c(blank), len(row)) + row


def test_damaged_record_is_an_error_with_offset_and_remedy() -> None:
    message = refusal(value_of(bytes(ROW.itemsize))[:-1] + b"\x01")

    assert message.startswith("state record at offset 1 fails its CRC")
    assert "delete the topic" in message


def test_record_of_another_size_is_an_error() -> None:
    assert "at offset 1 has another size than this version's" in refusal(value_of(bytes(ROW.itemsize + 8)))
    assert "at offset 1 has another size" in refusal(b"")


def test_record_of_a_later_version_is_an_error_with_a_remedy() -> None:
    message = refusal(value_of(bytes(ROW.itemsize + 64), STATE_VERSION + 1))

    assert f"of a later version than this one's ({STATE_VERSION})" in message
    assert "run the newer version" in message


def test_table_that_is_too_small_is_an_error_that_names_the_option() -> None:
    cut = cut_state(feed(fresh(rows=2048), newcomers(1025)), 1)
    with pytest.raises(BadState, match=r"partition 0 has more keys than its table holds \(1024\).*rows_per_partition"):
        restored([cut], fresh())


def test_section_can_be_read_with_every_codec() -> None:
    section = cut_state(feed(fresh(), newcomers(9)), 1).sections[0]
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        restoration = Restoration(fresh())
        add_fetch(restoration, ColumnBatch(section.records, section.count, (0, 0), codec=codec)._build())
        assert np.sort(restoration.partition.state.rows["key"][:9]).tolist() == [IPV4_TAG + i for i in range(9)]
