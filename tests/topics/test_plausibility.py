"""Readers refuse throttles that no engine issues; the bounds are those of the detector."""

from __future__ import annotations

import pytest

from engine.detector.constants import (
    FAST_TERM_MS,
    POOL_TERM_MS,
    PREFIX_BITS_V4,
    PREFIX_BITS_V6,
    PREFIX_SHIFTS,
    SCALE_MS,
)
from topics.networks import network_of
from topics.plausibility import LONGEST_TERM_MS, SHORTEST_PREFIX, implausible_decision, implausible_manual_throttle

NOW_MS, DAY_MS = 1_800_000_000_000, 86_400_000


def test_bounds_are_those_of_the_detector() -> None:
    assert {32: PREFIX_BITS_V4 - PREFIX_SHIFTS[-2], 128: PREFIX_BITS_V6 - PREFIX_SHIFTS[-1]} == SHORTEST_PREFIX
    assert max(*SCALE_MS, FAST_TERM_MS, POOL_TERM_MS) == LONGEST_TERM_MS


@pytest.mark.parametrize(
    ("network", "issued_ms", "until_ms"),
    [
        ("0.0.0.0/0", NOW_MS, NOW_MS + 1),
        ("10.0.0.0/15", NOW_MS, NOW_MS + 1),
        ("2001::/31", NOW_MS, NOW_MS + 1),
        ("192.0.2.7/32", NOW_MS, NOW_MS + 2 * DAY_MS),
        ("192.0.2.7/32", NOW_MS + DAY_MS, NOW_MS + DAY_MS + 1),
    ],
)
def test_throttle_that_no_engine_issues_is_implausible(network: str, issued_ms: int, until_ms: int) -> None:
    assert implausible_decision(network_of(network), issued_ms, until_ms, NOW_MS)


@pytest.mark.parametrize("network", ["10.0.0.0/16", "2001:db8::/32", "192.0.2.7/32"])
def test_throttle_of_the_widest_rank_is_plausible(network: str) -> None:
    assert implausible_decision(network_of(network), NOW_MS - DAY_MS, NOW_MS, NOW_MS) == ""


def test_manual_throttle_has_a_wider_bound() -> None:
    assert implausible_manual_throttle(network_of("10.0.0.0/8"), NOW_MS, NOW_MS) == ""
    assert implausible_manual_throttle(network_of("0.0.0.0/1"), NOW_MS, NOW_MS)
