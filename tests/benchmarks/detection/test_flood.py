"""The flood benchmark, small: its answers are right, and wrong ones are found."""

from __future__ import annotations

import orjson
import pytest

from benchmarks.detection import flood


def test_small_flood_keeps_memory_and_regulars_and_throttles_its_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    assert flood.main(["--small"]) == 0

    figures = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["answer"] == "right"
    assert figures["announced"] > figures["slots"] * figures["bytes_a_slot"]
    one, several, v4, twice = figures["floods"]
    assert (one["prefix_decisions"], several["prefix_decisions"]) == ({"/32": 1}, {"/32": 8})
    assert v4["prefix_decisions"] == {"/16": 256}
    assert twice["prefix_decisions"] == {}
    assert twice["evicted"] > figures["slots"]
    assert all(each["regulars_kept"] == each["regulars"] > 0 for each in figures["floods"])


def test_growth_lost_regulars_and_missing_decisions_are_complaints() -> None:
    answer = flood.Answer("IPv4 addresses of a /8", 100, rss_before=100, regulars=10, rss_after=110, regulars_kept=9)

    assert len([*answer.complaints()]) == 3
