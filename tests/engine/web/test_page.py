"""What the page is made of: top movers, a sender's past out of its events, the board of decisions. `system` has the rest."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import orjson
import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from engine.decisions.override_index import Book
from engine.detector.constants import HOUR, HOUR_MS
from engine.detector.throttle import Policy
from engine.state.partition import Partition
from engine.state.top_senders import RECENT_MS, movers
from engine.web import decision_log as decision_log_module
from engine.web.decision_log import Board
from engine.web.history import counts
from engine.worker.override_feed import OverrideReader
from tests.support.sequences import DAY_MS, START_MS, columns_of, rich_sequence
from topics.decisions import RELEASE, THROTTLE, Decision, Source, encode_decision
from topics.overrides import Override, Removal


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [1, 4, 500])
def test_movers_are_those_that_a_look_at_every_row_finds(seed: int, most: int) -> None:
    events = rich_sequence(seed, 2000)
    partition = Partition(Policy(1.0, DAY_MS, 0, 1), 4096)
    partition.apply(columns_of(events), 0, len(events))
    clock_ms, newcomers = int(partition.state.site["clock_ms"][0]), float(partition.state.site["q90"][0][HOUR])
    expected = []
    for row in partition.state.rows[: partition.keys]:
        elapsed_ms = clock_ms - int(row["last_ms"])
        if elapsed_ms <= RECENT_MS:
            usual = float(row["memory"][HOUR]) if row["active_days"] else newcomers
            expected.append(
                (float(row["counter"][HOUR]) * math.exp(-max(0, elapsed_ms) / HOUR_MS) - usual, int(row["key"]))
            )
    wanted = [key for excess, key in sorted(expected, key=lambda pair: -pair[0]) if excess > 0][:most]
    found = movers(partition, most)
    assert [one.key for one in found] == wanted
    assert all(one.messages > one.expected for one in found)


EVENTS = st.lists(st.tuples(st.integers(0, 86_400_000), st.integers(1, 50)), min_size=1, max_size=30)


@given(EVENTS, EVENTS, st.sampled_from([HOUR_MS, 6 * HOUR_MS, 24 * HOUR_MS]))
def test_what_was_counted_follows_from_the_events_and_the_end(
    older: list[tuple[int, int]], newer: list[tuple[int, int]], tau_ms: int
) -> None:
    day = 86_400_000
    all_events = [*sorted(older), *sorted((at_ms + day, amount) for at_ms, amount in newer)]
    end_ms, count, last_ms, truth = 2 * day + 1, 0.0, 0, []
    for at_ms, amount in all_events:
        count = count * math.exp(-(at_ms - last_ms) / tau_ms) + amount
        last_ms = at_ms
        truth.append(count)
    now = count * math.exp(-(end_ms - last_ms) / tau_ms)
    shown = all_events[len(older) :]
    stamps = np.array([*(at_ms for at_ms, _ in shown), end_ms], np.int64)
    told = counts(stamps, np.array([amount for _, amount in shown], np.float64), tau_ms, now)
    assert told[-1] == now
    span = (end_ms - shown[0][0]) / tau_ms
    left = truth[len(older)] - shown[0][1]  # of the older ones when the first shown one came
    error = 1e-6 * max(truth) if span < 3 else left
    assert np.abs(told[:-1] - np.array(truth[len(older) :])).max() <= error + 1e-9


def decision(network: str, offset: int, verdict: str = THROTTLE, until: int = START_MS + DAY_MS) -> Decision:
    evidence = {
        "scales": ["24h"],
        "counters": {"24h": 9.0},
        "limits": {"24h": 5.0},
        "peaks": {"24h": 1.0},
        "active_days": 0,
    }
    throttle = verdict == THROTTLE
    return Decision(
        network, verdict, START_MS + offset, until, 0.5, 1.0, "probation" if throttle else "",
        {"code": 451, "status": "4.7.501", "tag": "AS20000001", "text": ""} if throttle else {},
        evidence if throttle else {}, Source("connections", 0, offset), "peak-memory/2", "sha256:00",
    )  # fmt: skip


def record(topic: str, key: str, value: bytes | None, **headers: bytes) -> Any:
    return ConsumerRecord(topic, 0, 0, START_MS, 0, key.encode(), value, None, 0, 0, tuple(headers.items()))


def said(made: Decision) -> Any:
    if made.verdict == RELEASE:
        return record("decisions", made.network, None, release=encode_decision(made))
    return record("decisions", made.network, encode_decision(made))


def networks(board: Board, at_ms: int = START_MS, wanted: str = "") -> list[str]:
    return [found.network for found in board.live(at_ms, wanted)]


A, B, C = "192.0.2.1/32", "192.0.2.2/32", "2001:db8::/64"


def test_the_board_shows_what_is_in_force_the_last_said_first() -> None:
    board = Board("", {})
    board.take([said(decision(A, 1)), said(decision(B, 2)), said(decision(C, 3)), said(decision(A, 4))])
    assert networks(board) == [A, C, B]
    assert networks(board, wanted="2001:") == [C]
    assert networks(board, wanted="probation") == [A, C, B]
    assert networks(board, wanted="volume") == []
    board.take([said(decision(C, 5, RELEASE))])
    assert networks(board) == [A, B]
    board.take([record("decisions", B, None)])
    assert networks(board) == [A]
    assert networks(board, at_ms=START_MS + DAY_MS) == []
    board.forget(START_MS + DAY_MS)
    assert board.throttles == {}
    assert [made.source.offset for made in board.about({A, B})] == [1, 2, 4]


def test_what_is_older_than_what_is_held_is_ignored() -> None:
    board = Board("", {})
    board.take([said(decision(A, 9, until=START_MS + 7)), said(decision(A, 3))])
    assert board.throttles[A].until == START_MS + 7
    board.take([said(decision(A, 3, RELEASE))])
    assert networks(board) == [A]


def test_the_board_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_log_module, "MOST_HELD", 3)
    board = Board("", {})
    board.take([said(decision(f"192.0.2.{n}/32", n)) for n in range(5)])
    assert networks(board) == [f"192.0.2.{n}/32" for n in (4, 3, 2)]


def test_what_cannot_be_read_is_left_out() -> None:
    board = Board("", {})
    board.take([record("decisions", A, b"{"), record("edges", "e", b"7"), said(decision(B, 1))])
    assert (networks(board), board.beats) == ([B], {})


class Acting:
    """Of an engine what the reader of overrides needs. ``asked``: what it was to act on."""

    def __init__(self) -> None:
        self.book = Book()
        self.asked: list[list[str]] = []

    async def override(self, networks: list[str]) -> None:
        self.asked.append(networks)


async def test_overrides_are_read_once_and_shown_until_they_are_taken_back() -> None:
    board, acting = Board("", {}), Acting()
    reader = OverrideReader("exemptions", {}, cast(Any, acting), board.hear)
    override = {"network": A, "kind": "exempt", "reason": "a customer", "by": "anna", "v": 1}
    named = {"name": "helo:.example.com", "kind": "exempt-name", "created": 7, "v": 1}
    records = [
        record("exemptions", A, b"[]"),
        record("exemptions", A, orjson.dumps(override)),
        record("exemptions", "helo:.example.com", orjson.dumps(named)),
    ]
    await reader.take(records, follow=True)
    assert acting.asked == [[A]]
    shown = board.overrides[A]
    assert (shown.reason, shown.by, shown.created) == ("a customer", "anna", START_MS)
    assert set(board.overrides) == {A, "helo:.example.com"}
    removal = orjson.dumps({"by": "ben", "created": START_MS + 5})
    await reader.take([record("exemptions", A, None, removal=removal)], follow=True)
    assert set(board.overrides) == {"helo:.example.com"}
    assert [(type(one), one.by) for one in board.said] == [(Override, "anna"), (Override, ""), (Removal, "ben")]
    in_force = [acting.book.of(A, START_MS + after_ms) is not None for after_ms in (0, 4, 5)]
    assert in_force == [True, True, False]


def test_an_edge_that_says_goodbye_is_not_missed() -> None:
    board = Board("", {})
    for name, alive in (("mx1", True), ("mx2", True), ("mx2", False)):
        board.take([record("edges", name, orjson.dumps({"edge": name, "ts": START_MS, "alive": alive, "v": 1}))])
    assert set(board.silent(1000)) == {"mx1"}
