from __future__ import annotations

from dataclasses import replace

import pytest

from topics.decisions import RELEASE, THROTTLE, BadDecision, Decision, Source, decode_decision, encode_decision
from topics.words import decision_text

EVIDENCE = {
    "scales": ["1h", "24h"],
    "counters": {"1h": 9.25, "6h": 10.0, "24h": 1234.5},
    "limits": {"1h": 8.0, "6h": 20.0, "24h": 99.9},
    "peaks": {"1h": 1.0, "6h": 2.0, "24h": 3.5},
    "active_days": 12,
    "first_seen": 0,
}
DECISION = Decision(
    network="192.0.2.7/32",
    verdict=THROTTLE,
    issued=1_767_571_200_000,
    until=1_767_574_800_000,
    rate_per_min=0.25,
    burst=15.0,
    reason="volume",
    reply={"code": 451, "status": "4.7.500", "tag": "AS10000001", "text": "busy"},
    evidence=EVIDENCE,
    source=Source("connections", 1, 2),
    model="peak-memory/1",
    config="sha256:00",
)
THROTTLED = "throttled to 15 per hour until 05 Jan 01:00 UTC"


def test_sentence_names_the_longest_exceeded_scale() -> None:
    assert decision_text(DECISION) == (
        "192.0.2.7/32: about 1,234 messages in 24 hours; its highest in 12 active days was 3.5, so its limit is 100; "
        + THROTTLED
    )


@pytest.mark.parametrize(
    ("days", "reason"),
    [
        (0, "new here, a newcomer may send 100"),
        (1, "only 1 active day known (highest so far 3.5), so its limit is 100"),
        (3, "only 3 active days known (highest so far 3.5), so its limit is 100"),
    ],
)
def test_sentence_on_probation_names_the_known_days(days: int, reason: str) -> None:
    sentence = decision_text(replace(DECISION, reason="probation", evidence={**EVIDENCE, "active_days": days}))
    assert sentence == f"192.0.2.7/32: about 1,234 messages in 24 hours; {reason}; {THROTTLED}"


@pytest.mark.parametrize(
    ("rate_per_min", "rate"),
    [
        (50.0, "3,000 per hour"),
        (1 / 60, "1 per hour"),
        (1 / 240, "one every 4 hours"),
        (1 / 90, "one every 1.5 hours"),
        (0.0, "nothing"),
    ],
)
def test_rate_is_given_in_whole_messages(rate_per_min: float, rate: str) -> None:
    assert decision_text(replace(DECISION, rate_per_min=rate_per_min)).endswith(
        f"throttled to {rate} until 05 Jan 01:00 UTC"
    )


def test_release_sentence_names_the_expiry() -> None:
    assert (
        decision_text(replace(DECISION, verdict=RELEASE))
        == "192.0.2.7/32: released, its throttle expired 05 Jan 01:00 UTC"
    )


def test_decision_of_another_version_has_a_sentence() -> None:
    assert decision_text(replace(DECISION, reason="override", evidence={})) == f"192.0.2.7/32: override; {THROTTLED}"
    later = {**EVIDENCE, "scales": ["10min"], **{name: {"10min": 3.0} for name in ("counters", "limits", "peaks")}}
    assert "about 3 messages in 10min" in decision_text(replace(DECISION, evidence=later))


def test_encoded_decision_decodes_to_itself() -> None:
    for decision in (
        DECISION,
        replace(DECISION, verdict=RELEASE, rate_per_min=0.0, burst=0.0, reason="", reply={}, evidence={}),
    ):
        assert decode_decision(encode_decision(decision)) == decision


def test_unknown_fields_are_ignored() -> None:
    value = encode_decision(DECISION)[:-1] + b',"colour":"blue"}'
    assert decode_decision(value) == DECISION


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"x"',
        b"\xff",
        b'{"network":"x"}',
        encode_decision(DECISION).replace(b'"offset"', b'"o"'),
        encode_decision(DECISION).replace(b"0.25", b'"much"'),
    ],
)
def test_other_values_raise_bad_decision(value: bytes) -> None:
    with pytest.raises(BadDecision, match=r"^not a decision: "):
        decode_decision(value)
