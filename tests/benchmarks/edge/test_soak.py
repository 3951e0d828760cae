"""The soak: its measure of growth, and a small run at night."""

from __future__ import annotations

import orjson
import pytest

from benchmarks.edge import soak
from benchmarks.edge.servers import Server
from benchmarks.edge.soak import Memory


@pytest.mark.parametrize(("samples", "growth"), [([90, 100, 100, 100, 110], 1.1), ([50], 1.0)])
def test_growth_relates_the_last_fifth_to_the_second(samples: list[float], growth: float) -> None:
    memory = Memory(Server.__new__(Server))

    memory.samples_mb = samples

    assert memory.growth() == pytest.approx(growth)


@pytest.mark.nightly
@pytest.mark.timeout(180)
def test_small_soak_closes_slow_clients_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--small"]) == 0

    figures = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["idle_lost"] == 0
    assert figures["cut_off"] > 50
    assert figures["garbage"] > 5
    assert figures["answers"] > 1000
    assert figures["rss_growth"] < 1.5
