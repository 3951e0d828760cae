"""The spool: what was written comes back in order, once, over restarts; at its bound the oldest goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.edge.spool import Spool

PLENTY = 1 << 20


def taken(spool: Spool) -> list[list[bytes]]:
    found = []
    while (batch := spool.oldest()) is not None:
        found.append(batch[1])
        spool.remove(batch[0])
    return found


def test_batches_come_back_in_order_over_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, PLENTY)
    for number in range(12):
        spool.append([b"%d" % number, b"x"])
    again = Spool(tmp_path, PLENTY)
    assert (again.identity, again.octets, len(again)) == (spool.identity, spool.octets, 12)
    assert taken(again) == [[b"%d" % number, b"x"] for number in range(12)]
    assert (again.octets, len(again)) == (0, 0)
    assert list(tmp_path.glob("*.events")) == []


def test_what_kafka_has_already_is_not_sent_and_numbers_go_on_above_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, PLENTY)
    for text in (b"a", b"b", b"c"):
        spool.append([text])
    spool.settle(2)
    assert taken(spool) == [[b"c"]]
    fresh = Spool(tmp_path / "other", PLENTY)
    fresh.settle(41)
    fresh.append([b"d"])
    batch = fresh.oldest()
    assert batch is not None
    assert batch[0] == 42


def test_at_the_bound_the_oldest_goes(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 200)
    for number in range(20):
        spool.append([b"%d" % number])
    assert spool.octets <= 200
    assert spool.dropped_batches == 20 - len(spool) > 0
    assert taken(spool)[-1] == [b"19"]


def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
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
def test_a_damaged_batch_is_set_aside_and_the_others_go_on(tmp_path: Path, damage: bytes) -> None:
    spool = Spool(tmp_path, PLENTY)
    for text in (b"a", b"b"):
        spool.append([text])
    next(iter(sorted(tmp_path.glob("*.events")))).write_bytes(damage)
    assert taken(Spool(tmp_path, PLENTY)) == [[b"b"]]
    assert len(list(tmp_path.glob("*.bad"))) == 1
