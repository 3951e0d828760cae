"""Overrides for the laws: random ones that hypothesis can shrink, as plain records and as the engine reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from engine.decisions.compose import Composer, ReplyTexts
from engine.decisions.override_index import OverrideIndex
from engine.decisions.publish_gate import PublishGate
from engine.state.partition import Partition
from tests.oracles.overrides import PlainOverride, PlainPublished
from tests.support.sequences import DAY_MS, HOUR_MS, START_MS
from topics.decisions import OVERRIDE, POOL, PROBATION, VOLUME, Decision
from topics.overrides import CONNECTOR, EXEMPT, THROTTLE, THROTTLED, Override, OverrideRecord, Removal

STATUS = dict.fromkeys((VOLUME, PROBATION, POOL, OVERRIDE), "4.7.500")
COMPOSER = Composer("connections", "sha256:00", ReplyTexts(STATUS, "{ip}"))
NETWORKS = (
    "0.0.0.0/32", "0.0.0.1/32", "0.0.0.0/30", "0.0.0.0/8", "0.0.0.0/0", "255.255.255.255/32", "::/64", "::/0",
    "2001:db8:1:2::/64", "2001:db8:1::/48", "2001:db8::/32", "2001:db8:1:2::1/128", "128.0.0.0/1",
)  # fmt: skip
TIMES_MS = st.integers(-2, 60).map(lambda at: START_MS + at * HOUR_MS) | st.integers(0, 60).map(
    lambda at: START_MS + at * DAY_MS
)
OVERRIDES = st.lists(
    st.tuples(
        st.sampled_from(NETWORKS),
        st.sampled_from(["exempt", "exempt", "throttle", "remove"]),
        TIMES_MS,
        st.none() | st.sampled_from([HOUR_MS, DAY_MS, 30 * DAY_MS]),
    ),
    max_size=5,
).map(
    lambda choices: [
        PlainOverride(
            network, kind, created, created + (lasts or HOUR_MS) if lasts or kind == "throttle" else None, offset
        )
        for offset, (network, kind, created, lasts) in enumerate(sorted(choices, key=lambda choice: choice[2]))
    ]
)


def records_of(overrides: Iterable[PlainOverride]) -> list[OverrideRecord]:
    """Return the overrides as the engine reads them."""
    return [
        Removal(override.network, override.created, offset=override.offset)
        if override.kind == "remove"
        else Override(
            override.network,
            EXEMPT if override.kind == "exempt" else THROTTLE,
            CONNECTOR if override.kind == "exempt" else THROTTLED,
            override.created,
            override.until,
            offset=override.offset,
            rate_per_min=1.0,
        )
        for override in overrides
    ]


def gate_of(partition: Partition, overrides: Sequence[PlainOverride], composer: Composer = COMPOSER) -> PublishGate:
    """Return a gate that applies the overrides to a partition."""
    return PublishGate(OverrideIndex(records_of(overrides)), partition, composer, "exemptions")


def published_of(decision: Decision) -> PlainPublished:
    """Return a decision as the plain gate has it."""
    is_override = decision.reason == OVERRIDE
    return PlainPublished(decision.network, decision.verdict, decision.source.offset, is_override)
