"""Invariant tested: whatever a record of a small topic or a snapshot's header contains, a reader raises its decoder's one
exception or none, later records are read, and the texts for people can be made of every record that was decoded."""

from __future__ import annotations

import copy
import os
import random
import zlib
from typing import Any

import orjson
import pytest
from aiokafka import ConsumerRecord

from engine.cli.decisions import line_of
from engine.edge.decision_feed import DecisionFeed, FeedOptions
from engine.edge.lookup import lookup
from engine.edge.snapshot import MAGIC, PART, BadSnapshot, build_header, pack_header, read_snapshot, restore_table
from engine.edge.table import DecisionTable
from engine.web.decision_log import DecisionLog
from tests.support.scenes import DECISIONS
from topics.decisions import RELEASE_HEADER, BadDecision, decode_decision
from topics.overrides import REMOVAL_HEADER, BadOverride, Override, decode_line, decode_record, encode_line
from topics.words import decision_text, override_text

NOW_MS = 1_800_000_000_000
DECISION_VALUES = [orjson.loads(line) for line in DECISIONS.read_bytes().splitlines()]
EXEMPTION = {
    "network": "192.0.2.0/24",
    "kind": "exempt",
    "action": "connector",
    "created": NOW_MS,
    "owner": "o",
    "by": "b",
}
OVERRIDE_VALUES = [
    EXEMPTION,
    {"name": "client:.example.com", "kind": "exempt-name", "created": NOW_MS},
    {**EXEMPTION, "kind": "throttle", "until": NOW_MS + 10**9, "rate_per_min": 1.0, "burst": 2.0},
]
HEARTBEAT = {"edge": "mx1", "ts": NOW_MS, "alive": True, "v": 1}
ODD: list[Any] = [None, True, 0, -1, 1.5, 1e308, -1e308, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1, 253_402_300_800_000]
ODD += ["", "x", "\x1b[2J", "a\r\nb", "é" * 300, "0.0.0.0/0", "::/0", "10.0.0.1/8", "client:.x", "helo:", "9" * 400]
ODD += ["nan", "1e999", "client:" + "a." * 200 + "b", [], [1], {}, {"a": 1}]
ROUNDS = 400


def changed(value: Any, rng: random.Random) -> Any:
    """Return a copy of a JSON value with up to three fields removed or replaced."""
    value = copy.deepcopy(value)
    for _ in range(rng.randrange(4)):
        at = value
        while at:
            name = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
            if isinstance(at[name], dict | list) and rng.random() < 0.6:
                at = at[name]
                continue
            if isinstance(at, dict) and rng.random() < 0.25:
                del at[name]
            else:
                at[name] = rng.choice(ODD)
            break
    return value


def damaged(value: Any, rng: random.Random) -> bytes:
    data = bytearray(orjson.dumps(value))
    if rng.random() < 0.1:
        data[rng.randrange(len(data))] = rng.randrange(256)
    odd = [b"", b"null", b"[]", b"1", b'{"until":1e999}', b"[" * 2000]
    return rng.choice(odd) if rng.random() < 0.05 else bytes(data)


def record(
    topic: str, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]], offset: int
) -> ConsumerRecord:
    return ConsumerRecord(topic, 0, offset, NOW_MS, 0, key, value, None, 0, 0, headers)


def read_everywhere(records: list[ConsumerRecord], feed: DecisionFeed, log: DecisionLog) -> None:
    """Give records to the edge's and the worker's readers, and make every text of them."""
    feed._apply_all(records)
    log.apply([each for each in records if each.topic != "exemptions"])
    log.watched_throttles(NOW_MS)
    log.silent_edges(6_000)
    for each in records:
        try:
            if each.topic == "decisions":
                decision = decode_decision(each.value or b"")
                assert "\n" not in decision_text(decision) + line_of(decision)
            elif each.topic == "exemptions":
                override = decode_record(each.key, each.value, dict(each.headers).get(REMOVAL_HEADER), each.offset)
                assert override is None or decode_line(encode_line(override)) == override
                assert not isinstance(override, Override) or override_text(override)
        except (BadDecision, BadOverride):
            continue


def records_from(rng: random.Random, offset: int) -> list[ConsumerRecord]:
    decision, override = changed(rng.choice(DECISION_VALUES), rng), changed(rng.choice(OVERRIDE_VALUES), rng)
    heartbeat = changed(HEARTBEAT, rng)
    keys = [str(value.get("network", value.get("name", "x"))).encode() for value in (decision, override)]
    made = []
    for topic, key, value, header in (
        ("decisions", keys[0], decision, RELEASE_HEADER),
        ("exemptions", keys[1], override, REMOVAL_HEADER),
        ("edges", str(heartbeat.get("edge")).encode(), heartbeat, "none"),
    ):
        data, is_removal = damaged(value, rng), rng.random() < 0.3
        made.append(record(topic, key, None if is_removal else data, [(header, data)] if is_removal else [], offset))
    return made


def check_records(seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    table = DecisionTable(1_000)
    feed, log = DecisionFeed(table, FeedOptions("", 10**9, 2_000, {})), DecisionLog("", {}, ["0.0.0.0/0", "::/0"])
    table.trust_until(NOW_MS + 10**9)

    for offset in range(rounds):
        read_everywhere(records_from(rng, offset), feed, log)
        lookup("192.0.2.7", table, NOW_MS)

    log.apply([record("edges", b"last", orjson.dumps({**HEARTBEAT, "edge": "last"}), [], rounds)])
    assert log.heartbeats.get("last") == NOW_MS
    assert feed.unreadable.count
    assert log.unreadable.count


def check_headers(seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    whole = pack_header(build_header(DecisionTable(1), {"decisions 0": 5}, NOW_MS, 0))
    fields = orjson.loads(whole[len(MAGIC) + PART.size :])
    fields |= {"sources": [["connections", 1]], "exemptions": {"192.0.2.0/24": NOW_MS, "client:.x.y": 5}}

    for _ in range(rounds):
        body = damaged(changed(fields, rng), rng)
        try:
            header, columns = read_snapshot(MAGIC + PART.pack(len(body), zlib.crc32(body)) + body, 1_000)
        except BadSnapshot:
            continue
        table = DecisionTable(1_000)
        restore_table(table, header, columns)
        DecisionFeed(table, FeedOptions("", 10**9, 2_000, {})).resume(header.positions, header.caught_up_ms)


@pytest.mark.parametrize("seed", range(3))
def test_changed_records_never_stop_a_reader(seed: int) -> None:
    check_records(seed, ROUNDS)


def test_changed_snapshot_header_is_read_or_refused() -> None:
    check_headers(0, ROUNDS)


@pytest.mark.nightly
def test_many_changed_records_and_headers_never_stop_a_reader() -> None:
    """The environment's TIDEGATE_FUZZ_SEED repeats a run; each run prints its seed."""
    seed = int(os.environ.get("TIDEGATE_FUZZ_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"TIDEGATE_FUZZ_SEED={seed}")  # noqa: T201 (pytest shows it with a failure)

    for part in range(100):
        check_records(seed + part, 3_000)
        check_headers(seed + part, 3_000)
