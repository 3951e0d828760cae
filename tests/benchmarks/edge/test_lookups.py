"""The look-up benchmark: its figures, and a small run at night, because it downloads redis-server and postfwd."""

from __future__ import annotations

import orjson
import pytest

from benchmarks.edge import lookups

PROMISED = {"lookups_per_s_16", "ratio_redis_16", "ratio_redis_64", "policy_p99_ms_16", "rss_mb_1m_decisions"}
LOADS = ("edge_16", "edge_64", "edge_open_16", "edge_events_16", "edge_2_16", "edge_2_64", "postfwd_16", "http_16")
OTHERS = ("redis_16", "redis_64", "redis_open_16", "redis_2_16", "redis_2_64")


def test_ratio_is_the_median_of_ratios_within_a_round() -> None:
    runs = {name: [{"per_s": rate, "p99_ms": 1.0, "load_cpu_us": 5.0} for rate in (1.0, 9.0, 2.0)] for name in LOADS}
    runs |= {name: [{"per_s": rate, "p99_ms": 1.0, "load_cpu_us": 5.0} for rate in (2.0, 9.0, 8.0)] for name in OTHERS}

    found = lookups.figures(runs, 250.4)

    assert (found["ratio_redis_16"], found["lookups_per_s_16"], found["rss_mb_1m_decisions"]) == (0.5, 2, 250)


@pytest.mark.nightly
@pytest.mark.timeout(240)
def test_small_run_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    status = lookups.main(["--small"])

    out, err = capsys.readouterr()
    if "is not available" in err:
        pytest.skip(err.strip())
    assert status == 0, out + err
    figures = orjson.loads(out.splitlines()[-1])
    assert all(figures[name] > 0 for name in PROMISED)
