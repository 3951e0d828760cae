"""Decisions as they go over the wire and as people read them, to the octet."""

from __future__ import annotations

import orjson
import pytest

from tests.support.scenes import DECISIONS, SENTENCES, lines, sentences
from topics.decisions import decode_decision, encode_decision


@pytest.mark.parametrize("number", range(15))
def test_a_decision_is_on_the_wire_as_it_always_was(number: int) -> None:
    assert lines()[number] == DECISIONS.read_bytes().splitlines()[number]


def test_no_scene_says_more_than_the_files() -> None:
    assert len(lines()) == len(DECISIONS.read_bytes().splitlines()) == 15


def test_a_decision_reads_as_it_always_did() -> None:
    assert sentences() == SENTENCES.read_text().splitlines()


def test_what_was_written_once_can_be_read_and_written_again() -> None:
    for line in DECISIONS.read_bytes().splitlines():
        assert encode_decision(decode_decision(line)) == line


def test_the_scenes_show_every_kind_of_decision() -> None:
    decisions = [orjson.loads(line) for line in DECISIONS.read_bytes().splitlines()]
    assert {decision["verdict"] for decision in decisions} == {"throttle", "shadow", "release"}
    assert {decision.get("reason") for decision in decisions} == {"probation", "volume", "pool", None}
    assert any(decision["network"].endswith("::/64") for decision in decisions)
    assert any(decision["network"] == "198.51.0.0/16" for decision in decisions)
