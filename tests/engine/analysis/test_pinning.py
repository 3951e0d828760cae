"""A single change among a sender's messages is told by its counters alone, by messages and time; what isn't single, isn't."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.analysis.pinning import EVIDENCE_STEP, TAU_MS, differ, single_change

NOW_MS = 1_764_000_000_000
HOUR_MS = 3_600_000
Sent = dict[int, int]  # messages by how long ago, ms

events = st.dictionaries(st.integers(1_000, 12 * HOUR_MS), st.integers(1, 200), min_size=1, max_size=30)


def counts(sent: Sent, digits: int | None = 3) -> dict[str, float]:
    """The leaky counts now, as a row's float32 has them, rounded as evidence is."""
    found = {}
    for name, tau_ms in TAU_MS.items():
        counter, last_ms = np.float32(0), max(sent)
        for ago_ms in sorted(sent, reverse=True):
            counter = np.float32(float(counter) * np.exp((ago_ms - last_ms) / tau_ms) + sent[ago_ms])
            last_ms = ago_ms
        left = float(counter) * float(np.exp(-last_ms / tau_ms))
        found[name] = left if digits is None else round(left, digits)
    return found


@given(events, st.integers(1, 3 * HOUR_MS), st.integers(1, 500), st.booleans())
def test_one_event_more_or_fewer_is_told(sent: Sent, ago_ms: int, messages: int, more: bool) -> None:
    other = {**sent, ago_ms: sent.get(ago_ms, 0) + messages}
    then, now = (sent, other) if more else (other, sent)
    found = single_change(counts(then), counts(now), NOW_MS)
    assert found is not None
    assert found.messages == (messages if more else -messages)
    assert abs(found.at_ms - (NOW_MS - ago_ms)) <= found.give_ms
    assert found.give_ms <= 2 * HOUR_MS / messages


@given(events)
def test_what_is_equal_or_only_rounded_has_no_change(sent: Sent) -> None:
    exact, rounded = counts(sent, None), counts(sent)
    assert not differ(exact, rounded, EVIDENCE_STEP)
    assert single_change(exact, rounded, NOW_MS) is None


def test_two_changes_are_not_taken_for_one() -> None:
    sent = {2 * HOUR_MS: 20, 600_000: 9, 1_000: 4}
    twice = {2 * HOUR_MS: 27, 600_000: 6, 1_000: 4}
    assert single_change(counts(sent), counts(twice), NOW_MS) is None


def test_another_order_is_no_change_of_messages() -> None:
    sent = {HOUR_MS: 20, 1_000: 50}
    late = {1_000: 70}  # the event of an hour ago came behind the other, and adds without fading
    assert single_change(counts(sent), counts(late), NOW_MS) is None


def test_one_scale_alone_does_not_tell_when() -> None:
    assert single_change({"24h": 10.0}, {"24h": 12.0}, NOW_MS) is None
