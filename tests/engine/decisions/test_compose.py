from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.load import load_settings
from engine.decisions.compose import MODEL, Composer, ReplyTexts
from engine.detector.budget import threshold_of
from engine.detector.verdict import RELEASE, THROTTLE, VERDICT
from engine.pipeline.build import composer, partition
from topics.decisions import POOL, PROBATION, VOLUME, decode_decision, encode_decision
from topics.keys import LAST_KEY
from topics.networks import network_text

REPLY = ReplyTexts(
    {VOLUME: "4.7.500", PROBATION: "4.7.501", POOL: "4.7.502"}, "later, {ip} of {network}, in {retry_s} s"
)
COMPOSER = Composer("connections", "sha256:00", REPLY)


def verdict_of(**fields: Any) -> Any:
    verdict = np.zeros(1, VERDICT)[0]
    given = {
        "kind": THROTTLE,
        "key": 0xFFFFFFFF_C0000207,
        "rate_per_h": 30.0,
        "burst": 30.0,
        "scales": 1,
        "active_days": 9,
    }
    for name, value in (given | fields).items():
        verdict[name] = value
    return verdict


@pytest.mark.parametrize(
    ("active_days", "reason", "status", "digit"),
    [(0, "probation", "4.7.501", "2"), (3, "probation", "4.7.501", "2"), (4, "volume", "4.7.500", "1")],
)
def test_reason_depends_on_the_active_days(active_days: int, reason: str, status: str, digit: str) -> None:
    decision = COMPOSER.decision(verdict_of(active_days=active_days), 0)
    assert (decision.reason, decision.reply["status"], decision.reply["tag"][2]) == (reason, status, digit)
    assert (decision.reply["code"], decision.model, decision.config) == (451, MODEL, "sha256:00")


@pytest.mark.parametrize("mask", range(1, 32))
def test_evidence_names_the_exceeded_scales(mask: int) -> None:
    named = COMPOSER.decision(verdict_of(scales=mask), 0).evidence["scales"]
    by_length = ((4, "1m"), (3, "10m"), (0, "1h"), (1, "6h"), (2, "24h"))
    assert named == [name for bit, name in by_length if mask >> bit & 1]


def test_scale_without_a_limit_is_omitted_from_the_evidence() -> None:
    evidence = COMPOSER.decision(verdict_of(limit=(3, 2, 1, np.inf, np.inf)), 0).evidence
    assert evidence["limits"] == {"1h": 3, "6h": 2, "24h": 1}
    assert list(evidence["counters"]) == ["1m", "10m", "1h", "6h", "24h"]


def test_recomputed_decision_has_the_same_tag() -> None:
    tag = REPLY.compose("192.0.2.7/32", VOLUME, 1_767_571_200_000, 1.0)["tag"]
    assert tag == f"AS1{zlib.crc32(b'192.0.2.7/32 1767571200000') % 10_000_000:07d}"
    assert tag != REPLY.compose("192.0.2.7/32", VOLUME, 1_767_571_200_001, 1.0)["tag"]


@pytest.mark.parametrize(("rate_per_min", "retry_s"), [(10.0, 60), (1.0, 60), (0.5, 120), (0.018575, 3230)])
def test_reply_has_network_and_retry_time(rate_per_min: float, retry_s: int) -> None:
    assert REPLY.compose("192.0.2.7/32", VOLUME, 0, rate_per_min)["text"] == (
        f"later, 192.0.2.7 of 192.0.2.7/32, in {retry_s} s"
    )
    assert REPLY.compose("2001:db8::/64", VOLUME, 0, 1.0)["text"].startswith("later, 2001:db8::/64 of 2001:db8::/64")


def test_release_has_no_reply_and_no_evidence() -> None:
    decision = COMPOSER.decision(verdict_of(kind=RELEASE, issued_ms=7, until_ms=5, offset=9), 2)
    assert (decision.verdict, decision.reply, decision.evidence) == ("release", {}, {})
    assert (decision.issued, decision.until, decision.source.partition, decision.source.offset) == (7, 5, 2, 9)


FLOATS = st.floats(1e-3, 1e9)


@given(st.integers(0, LAST_KEY), FLOATS, st.lists(FLOATS, min_size=15, max_size=15), st.integers(0, 65_535))
def test_decision_of_any_verdict_decodes_to_itself(key: int, rate: float, values: list[float], days: int) -> None:
    verdict = verdict_of(key=key, rate_per_h=rate, burst=max(1.0, rate), active_days=days, offset=2**62)
    verdict["counter"], verdict["limit"], verdict["memory"] = values[:5], values[5:10], values[10:]
    decision = COMPOSER.decision(verdict, 11)
    assert decode_decision(encode_decision(decision)) == decision
    assert decision.network == network_text(key)
    assert decision.rate_per_min == pytest.approx(rate / 60, abs=1e-6)
    limits = [decision.evidence["limits"][name] for name in ("1h", "6h", "24h", "10m", "1m")]
    assert limits == pytest.approx(values[5:10], abs=1e-3)


def test_composer_and_partition_are_built_from_the_settings() -> None:
    overrides = {
        "topics.prefix": "x-",
        "topics.partitions": 3,
        "model.sensitivity": "0.2",
        "model.learning_days": 3,
        "worker.rows_per_partition": 1500,
    }
    settings = load_settings(None, {}, overrides | {"worker.event_time_window_s": 60})
    made, of_three = composer(settings), partition(settings, 2)
    assert (made.topic, made.config) == ("x-connections", f"sha256:{settings.config_hash()}")
    assert of_three.policy[:6] == (threshold_of(0.2), 60_000, 2, 3, (10.0, 10.0), False)
    assert of_three.policy[7:9] == (3 * 86_400_000, True)
    assert of_three.policy.breaker_share == pytest.approx(20 * 0.002)
    assert len(of_three.state.rows) == 2048
