"""The benchmark of overrides: its inputs and checks, and a small run at night."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from benchmarks.edge import override_latency
from benchmarks.edge.override_latency import override_of, sender, synthetic
from topics.networks import network_of

PROMISED = {"release_to_edge_p99_ms", "release_to_withdrawal_p99_ms", "release_command_to_edge_p50_ms"}


def test_override_covers_its_sender_and_no_other() -> None:
    senders = [sender(number) for number in range(300)]

    for number, ip in enumerate(senders[:16]):
        network = network_of(override_of(ip, number).network)
        assert [each for each in senders if network.covers(network_of(f"{each}/32"))] == [ip]


def test_synthetic_networks_differ() -> None:
    assert len({synthetic(number) for number in range(5_000)}) == 5_000


def test_decisions_of_a_month_are_equal_when_computed_again(tmp_path: Path) -> None:
    assert override_latency.verified_share(tmp_path, 20) == 1.0


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_small_run_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert override_latency.main(["--small"]) == 0

    figures = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(figures[name] > 0 for name in PROMISED)
    assert figures["explain_verified"] == 1.0
