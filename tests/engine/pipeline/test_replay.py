from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, cast
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decisions.compose import Composer, ReplyTexts
from engine.detector.throttle import Policy
from engine.pipeline import replay as replay_module
from engine.pipeline.replay import Replay, ReplayCounts, whole_lines
from engine.state.partition import Partition
from tests.support.sequences import DAY_MS, OUTCOMES, START_MS, rich_sequence
from topics.decisions import POOL, PROBATION, VOLUME, encode_decision
from topics.events import ConnectionEvent, encode_event
from topics.keys import key_of, key_text
from topics.partitioner import partition_of

COMPOSER = Composer(
    "connections", "sha256:00", ReplyTexts({VOLUME: "4.7.500", PROBATION: "4.7.501", POOL: "4.7.502"}, "{ip}")
)
ROWS = 4096


def line_of(ts_ms: int, key: int, messages: int, outcome: int) -> bytes:
    ip = key_text(key).removesuffix("/64")
    return encode_event(ConnectionEvent(ts_ms, ip, "mx1", messages, messages, OUTCOMES[outcome])) + b"\n"


LINES = [line_of(event.ts_ms, event.key, event.messages, event.outcome) for event in rich_sequence(11, 6000)]
BROKEN = [
    b"{}\n",
    b"\n",
    b" \t\r\n",
    b"not JSON\n",
    b'{"ts":1,"ip":"192.0.2.7","messages":-1}\n',
    b"\xff\xfe\n",
    b"[" * 300 + b"\n",
]
MIXED = [
    line for i, line in enumerate(LINES) for line in ([BROKEN[i // 50 % len(BROKEN)], line] if i % 50 == 0 else [line])
]
ESCAPED = [line.replace(b'"mx1"', b'"m\\u0078\xc3\xbc"') if i % 7 == 0 else line for i, line in enumerate(LINES)]


def partitions_of(count: int) -> list[Partition]:
    return [Partition(Policy(1.0, DAY_MS, number, count), ROWS) for number in range(count)]


def replayed(source: BinaryIO, partitions: int = 1) -> tuple[list[bytes], ReplayCounts]:
    run = Replay(partitions_of(partitions), COMPOSER)
    return [encode_decision(decision) for found in run.run(source) for decision in found], run.counts


def decisions_of(lines: Iterable[bytes], partitions: int = 1) -> list[bytes]:
    return replayed(io.BytesIO(b"".join(lines)), partitions)[0]


class Dripping:
    """A source that returns fewer bytes than requested, as a pipe does."""

    def __init__(self, text: bytes, sizes: Iterator[int]) -> None:
        self._source, self._sizes = io.BytesIO(text), sizes

    def read(self, size: int) -> bytes:
        return self._source.read(min(size, next(self._sizes)))


@pytest.fixture(scope="module")
def expected() -> list[bytes]:
    return decisions_of(LINES)


def test_replay_makes_decisions(expected: list[bytes]) -> None:
    assert sum(b'"throttle"' in line for line in expected) > 50
    assert sum(b'"release"' in line for line in expected) > 50


@pytest.mark.parametrize("chunk", [200, 1 << 12, 1 << 20])
@pytest.mark.parametrize("block", [1, 77, 1 << 14])
def test_chunk_and_block_sizes_do_not_change_decisions(chunk: int, block: int, expected: list[bytes]) -> None:
    with (
        patch.object(replay_module, "whole_lines", partial(whole_lines, size=chunk)),
        patch.object(replay_module, "BLOCK_EVENTS", block),
    ):
        assert decisions_of(LINES[: len(LINES) if block > 1 else 500]) == (
            expected if block > 1 else decisions_of(LINES[:500])
        )


def test_pipe_and_gzip_file_give_the_same_decisions(expected: list[bytes], tmp_path: Path) -> None:
    text = b"".join(LINES)
    sizes = iter(lambda: 1000 + len(text) % 777, 0)
    assert replayed(cast(BinaryIO, Dripping(text, sizes)))[0] == expected
    path = tmp_path / "events.ndjson.gz"
    path.write_bytes(gzip.compress(text[:99_999]) + gzip.compress(text[99_999:]))
    with gzip.open(path) as source:
        assert replayed(cast(BinaryIO, source))[0] == expected


def test_several_files_are_one_history(expected: list[bytes]) -> None:
    run = Replay(partitions_of(1), COMPOSER)
    files = [io.BytesIO(b"".join(LINES[at : at + 2500])) for at in range(0, len(LINES), 2500)]
    assert [encode_decision(decision) for file in files for found in run.run(file) for decision in found] == expected


def test_poison_lines_are_counted_and_do_not_change_decisions(expected: list[bytes]) -> None:
    found, tally = replayed(io.BytesIO(b"".join(MIXED)))
    blank = sum(not line.strip() for line in MIXED)
    assert found == expected
    assert (tally.lines, tally.events, tally.poison) == (len(MIXED), len(LINES), len(MIXED) - len(LINES) - blank)
    assert tally.throttles + tally.releases == len(found)
    assert tally.examples[:3] == [(1, "ts missing"), (154, "not JSON"), (205, "messages out of range")]
    assert len(tally.examples) == 5
    for line, _ in tally.examples:
        assert MIXED[line - 1] in BROKEN


def test_slow_path_gives_the_same_decisions(expected: list[bytes]) -> None:
    assert decisions_of(ESCAPED) == expected


def test_last_line_needs_no_line_break(expected: list[bytes]) -> None:
    assert decisions_of([b"".join(LINES).rstrip(b"\n")]) == expected
    assert replayed(io.BytesIO(b"")) == ([], ReplayCounts())
    assert replayed(io.BytesIO(b"\n\n"))[1] == ReplayCounts(lines=2)


@pytest.mark.parametrize("partitions", [2, 5])
def test_partitions_decide_independently(partitions: int) -> None:
    dealt: list[list[bytes]] = [[] for _ in range(partitions)]
    for line, event in zip(LINES, rich_sequence(11, 6000), strict=True):
        dealt[partition_of(key_text(event.key).encode(), partitions)].append(line)
    apart = []
    for number, lines in enumerate(dealt):
        alone = Replay([Partition(Policy(1.0, DAY_MS, number, partitions), ROWS)], COMPOSER)
        for found in alone.run(io.BytesIO(b"".join(lines))):
            apart += [
                encode_decision(decision).replace(b'"partition":0', b'"partition":%d' % number) for decision in found
            ]
    together = decisions_of(LINES, partitions)
    assert sorted(together) == sorted(apart)
    assert len(together) > 100


def test_decisions_are_in_the_order_of_their_events() -> None:
    run = Replay(partitions_of(4), COMPOSER)
    issued = [decision.issued for found in run.run(io.BytesIO(b"".join(LINES))) for decision in found]
    jumps = [earlier - later for earlier, later in pairwise(issued)]
    assert max(jumps) < DAY_MS / 8  # as far as the events themselves are out of order


def test_offsets_count_the_events_of_a_partition() -> None:
    lines = [line_of(START_MS + i, key_of(f"192.0.2.{i % 3}"), 60, 0) for i in range(30)]
    run = Replay(partitions_of(3), COMPOSER)
    found = [decision for decisions in run.run(io.BytesIO(b"".join(lines))) for decision in decisions]
    counts = [sum(partition_of(b"192.0.2.%d" % (i % 3), 3) == number for i in range(30)) for number in range(3)]
    assert [partition.applied_offset for partition in run.partitions] == [count - 1 for count in counts]
    assert {decision.source.partition for decision in found} == {n for n, count in enumerate(counts) if count}
    assert all(int(partition.state.site["miskeyed"][0]) == 0 for partition in run.partitions)


@settings(max_examples=2 * settings().max_examples)
@given(st.binary(max_size=200) | st.text("ab\n", max_size=60).map(str.encode), st.integers(1, 40))
def test_whole_lines_keep_all_text_and_cut_no_line(text: bytes, size: int) -> None:
    chunks = list(whole_lines(io.BytesIO(text), size))
    assert b"".join(chunks) == text + (b"\n" if text and not text.endswith(b"\n") else b"")
    assert all(chunk.endswith(b"\n") for chunk in chunks)


def test_line_beyond_the_limit_is_cut() -> None:
    with patch.object(replay_module, "MAX_LINE_BYTES", 1000):
        chunks = list(whole_lines(io.BytesIO(b"x" * 5000 + b"\n" + LINES[0]), 100))
    assert max(len(chunk) for chunk in chunks) <= 1101
    assert chunks[-1].endswith(LINES[0])
