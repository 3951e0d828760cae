"""The simulated edge defers what token buckets defer, for any blocks and any delay of the decisions."""

from __future__ import annotations

import gzip
import importlib.util
import sys
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.analysis.simulated_edge import SimulatedEdge
from engine.config.load import load_settings
from engine.pipeline import build
from engine.pipeline.replay import EventReader
from tests.oracles.edge import Mail, deferred
from topics.columns.scan import READY, EventColumns, empty_columns
from topics.decisions import Decision, Source, encode_decision
from topics.keys import key_of

ADDRESSES = ("192.0.2.7", "198.51.100.1", "2001:db8:1:2::1", "2001:db8:1:2::2")
NETWORKS = ("192.0.2.7/32", "2001:db8:1:2::/64", "192.0.2.0/24", "2001:db8::/32", "192.0.0.0/16")

mails = st.lists(st.tuples(st.integers(0, 5_000_000), st.sampled_from(ADDRESSES), st.integers(0, 30)), max_size=60).map(
    lambda drawn: sorted(drawn, key=lambda mail: mail[0])
)
throttles = st.lists(
    st.builds(
        lambda network, verdict, issued, term, rate, burst: Decision(
            network, verdict, issued, issued + term, rate, burst, "volume", {}, {}, Source("c", 0, 0), "m", "c"
        ),
        st.sampled_from(NETWORKS),
        st.sampled_from(["throttle", "throttle", "release"]),
        st.integers(0, 4_000_000),
        st.integers(1, 3_000_000),
        st.sampled_from([0.0, 0.01, 1.0, 7.3]),
        st.sampled_from([0.0, 0.4, 1.0, 20.0]),
    ),
    max_size=12,
).map(lambda drawn: sorted(drawn, key=lambda decision: decision.issued))


def columns(mail: list[Mail]) -> EventColumns:
    events = empty_columns(len(mail))
    events.status[:] = READY
    events.ts_ms[:] = [ts_ms for ts_ms, _, _ in mail]
    events.key[:] = [key_of(ip) for _, ip, _ in mail]
    events.messages[:] = [messages for _, _, messages in mail]
    return events


@settings(max_examples=150)
@given(mails, throttles, st.sampled_from([0, 250, 100_000]), st.integers(1, 40))
def test_deferred_messages_equal_those_of_token_buckets(
    mail: list[Mail], decisions: list[Decision], delay_ms: int, block: int
) -> None:
    edge, counts = SimulatedEdge(delay_ms), []
    lines = [
        orjson.loads(encode_decision(decision)) | {"rate_per_min": decision.rate_per_min, "burst": decision.burst}
        for decision in decisions
    ]

    edge.add(decisions)
    for first in range(0, len(mail), block):
        counts += edge.deferred(columns(mail[first : first + block])).tolist()

    assert counts == deferred(mail, lines, delay_ms)


def test_nothing_is_deferred_without_a_decision() -> None:
    assert SimulatedEdge().deferred(columns([(0, "192.0.2.7", 10_000)])).tolist() == [0]


@pytest.mark.parametrize("delay_ms", [0, 2000])
def test_deferred_messages_equal_the_scorers_on_a_real_log(shared: Path, delay_ms: int) -> None:
    trace = shared / "evaluation" / "traces" / "dev-kdent.events.ndjson.gz"
    scorer = _scorer(shared / "evaluation" / "score.py")
    engine, edge, reader = build.replay(load_settings(None, {}, {})), SimulatedEdge(delay_ms), EventReader()
    decisions: list[Decision] = []
    ours: list[int] = []
    with gzip.open(trace) as source:
        for events in reader.blocks(cast(BinaryIO, source)):
            found = engine.decide(events)
            decisions += found
            edge.add(found)
            ours += edge.deferred(events).tolist()
    rows = []
    for decision in decisions:
        version, address = scorer.address(decision.network.partition("/")[0])
        shift = 0 if version == 4 else 64
        body = (decision.until, decision.rate_per_min, decision.burst) if decision.verdict == "throttle" else None
        rows.append((decision.issued + delay_ms, version, shift, address >> shift, body))
    recorded = scorer.Trace(str(trace), str(trace).replace(".events.ndjson.gz", ".labels.ndjson"))
    theirs = scorer.enforce(recorded, sorted(rows, key=lambda row: row[0]))
    assert sum(ours) > 100
    assert np.array_equal(np.array(ours), theirs)


def _scorer(path: Path) -> Any:
    specification = importlib.util.spec_from_file_location("score", path)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules["score"] = module
    specification.loader.exec_module(module)
    return module
