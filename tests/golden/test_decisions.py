"""Decisions on the wire and as sentences, byte for byte."""

from __future__ import annotations

import orjson
import pytest

from tests.support.scenes import DECISIONS, SENTENCES, lines, sentences
from topics.decisions import decode_decision, encode_decision


@pytest.mark.parametrize("number", range(15))
def test_decision_equals_its_golden_record(number: int) -> None:
    assert lines()[number] == DECISIONS.read_bytes().splitlines()[number]


def test_scenes_have_no_decisions_beyond_the_files() -> None:
    assert len(lines()) == len(DECISIONS.read_bytes().splitlines()) == 15


def test_sentences_equal_the_golden_ones() -> None:
    assert sentences() == SENTENCES.read_text().splitlines()


def test_golden_record_is_encoded_again_as_it_was_decoded() -> None:
    for line in DECISIONS.read_bytes().splitlines():
        assert encode_decision(decode_decision(line)) == line


def test_scenes_have_every_kind_of_decision() -> None:
    decisions = [orjson.loads(line) for line in DECISIONS.read_bytes().splitlines()]

    assert {decision["verdict"] for decision in decisions} == {"throttle", "shadow", "release"}
    assert {decision.get("reason") for decision in decisions} == {"probation", "volume", "pool", None}
    assert any(decision["network"].endswith("::/64") for decision in decisions)
    assert any(decision["network"] == "198.51.0.0/16" for decision in decisions)
