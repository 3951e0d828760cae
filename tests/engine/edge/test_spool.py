"""Batches are read back in order and once, across restarts; at its limit the spool drops the oldest."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.edge.spool import Spool

PLENTY = 1 << 20


def drain(spool: Spool) -> list[list[bytes]]:
    batches = []
    while (batch := spool.oldest()) is not None:
        batches.append(batch[1])
        spool.remove(batch[0])
    return batches


def test_batches_are_read_back_in_order_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, PLENTY)
    for number in range(12):
        spool.append([b"%d" % number, b"x"])

    again = Spool(tmp_path, PLENTY)

    assert (again.identity, again.size_bytes, len(again)) == (spool.identity, spool.size_bytes, 12)
    assert drain(again) == [[b"%d" % number, b"x"] for number in range(12)]
    assert (again.size_bytes, len(again)) == (0, 0)
    assert list(tmp_path.glob("*.events")) == []


def test_committed_batches_are_removed_and_numbers_continue_after_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path, PLENTY)
    for text in (b"a", b"b", b"c"):
        spool.append([text])

    spool.remove_through(2)

    assert drain(spool) == [[b"c"]]
    fresh = Spool(tmp_path / "other", PLENTY)
    fresh.remove_through(41)
    fresh.append([b"d"])
    batch = fresh.oldest()
    assert batch is not None
    assert batch[0] == 42


def test_oldest_batches_are_dropped_at_the_limit(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 200)

    for number in range(20):
        spool.append([b"%d" % number])

    assert spool.size_bytes <= 200
    assert spool.dropped_batches == 20 - len(spool) > 0
    assert drain(spool)[-1] == [b"19"]


def test_number_is_not_reused_after_a_restart(tmp_path: Path) -> None:
    numbers = []

    for _ in range(5):
        spool = Spool(tmp_path, PLENTY)
        spool.append([b"a"])
        batch = spool.oldest()
        assert batch is not None
        numbers.append(batch[0])
        spool.remove(batch[0])

    assert numbers == [1, 2, 3, 4, 5]
    assert len(list(tmp_path.glob("*.gone"))) == 1


@pytest.mark.parametrize("damage", [b"", b"junk", b"TGSPOOL1\0\0\0\0more"])
def test_damaged_batch_is_renamed_and_the_others_are_read(tmp_path: Path, damage: bytes) -> None:
    spool = Spool(tmp_path, PLENTY)
    for text in (b"a", b"b"):
        spool.append([text])
    next(iter(sorted(tmp_path.glob("*.events")))).write_bytes(damage)

    assert drain(Spool(tmp_path, PLENTY)) == [[b"b"]]
    assert len(list(tmp_path.glob("*.bad"))) == 1
