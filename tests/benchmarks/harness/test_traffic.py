"""Benchmarks' mail: repeatable, and distributed as its shape demands."""

from __future__ import annotations

import itertools
from collections import Counter

import orjson
import pytest

from benchmarks.contest.oracle import WINDOW_MS, answer, key_of_address
from benchmarks.harness.traffic import CHUNK_EVENTS, SHAPES, Traffic, evening
from topics.events import parse_event
from topics.keys import key_of, key_text

EVENTS, KEYS = 20_000, 500


def events_of(traffic: Traffic) -> list[bytes]:
    return b"".join(traffic.chunks()).splitlines()


def keys_of(traffic: Traffic) -> list[str]:
    return [key_of_address(orjson.loads(line)["ip"]) for line in events_of(traffic)]


@pytest.mark.parametrize("shape", SHAPES)
def test_traffic_is_the_same_for_one_seed_and_differs_for_another(shape: str) -> None:
    found = events_of(Traffic(EVENTS, KEYS, shape))

    assert len(found) == EVENTS
    assert found == events_of(Traffic(EVENTS, KEYS, shape)) != events_of(Traffic(EVENTS, KEYS, shape, seed=2))


def test_chunks_of_another_size_have_as_many_events() -> None:
    assert len(events_of(Traffic(EVENTS, KEYS, chunk=64))) == EVENTS


def test_share_of_the_busiest_sender_follows_the_shape() -> None:
    most = {shape: Counter(keys_of(Traffic(EVENTS, KEYS, shape))).most_common(1)[0][1] / EVENTS for shape in SHAPES}

    assert most["uniform"] < 0.05 < most["zipf"] < 0.3
    assert 0.45 < most["hot"] < 0.55


def test_all_senders_come_first_once_each_if_asked() -> None:
    traffic = Traffic(EVENTS, KEYS, all_first=True)

    keys = keys_of(traffic)

    assert len(set(keys[:KEYS])) == KEYS
    assert set(keys[KEYS:]) == set(keys[:KEYS])
    assert answer(traffic.chunks()).counts["decisions"] > 0


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_ipv6_networks_have_their_share_of_the_senders(share: float) -> None:
    keys = set(keys_of(Traffic(EVENTS, KEYS, ipv6_share=share)))

    assert sum("/64" in key for key in keys) / len(keys) == pytest.approx(share, abs=0.05)


def test_oracles_keys_are_those_of_the_records() -> None:
    for line in events_of(Traffic(2_000, KEYS, ipv6_share=0.5)):
        ip = orjson.loads(line)["ip"]
        assert key_of_address(ip) == key_text(key_of(ip))


def test_some_events_are_out_of_order_and_some_are_late() -> None:
    times_ms = [orjson.loads(line)["ts"] for line in events_of(Traffic(EVENTS, KEYS))]

    delays_ms = [max(0, before - ts) for before, ts in itertools.pairwise(times_ms)]

    assert 0.01 < sum(each > 0 for each in delays_ms) / EVENTS < 0.05
    assert 0.003 < sum(each > WINDOW_MS // 2 for each in delays_ms) / EVENTS < 0.007


def test_evening_is_ordered_and_has_all_senders_in_150_bytes_an_event() -> None:
    traffic = evening(2 * CHUNK_EVENTS + 100, KEYS)

    found = events_of(traffic)
    events = [parse_event(line) for line in found]

    assert len(events) == traffic.events
    assert {key_of(event.ip) for event in events} == {int(key) for key in traffic.senders}
    assert [event.ts for event in events] == sorted(event.ts for event in events)
    assert 140 < sum(map(len, found)) / len(found) < 160
    assert len({line.partition(b"session")[2] for line in found}) == len(found)
