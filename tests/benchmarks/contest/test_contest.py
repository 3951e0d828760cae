"""The contest: its answer is right, differences are found, figures and pages follow from the outcome."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest

from benchmarks.contest import openload, plots, tables
from benchmarks.contest.contenders import FAUST, FLINK, QUIX, STREAMS
from benchmarks.contest.figures import Outcome, last_line, losses, whole
from benchmarks.contest.key_costs import KeyCost
from benchmarks.contest.load import TICK_MS, Batches, probe
from benchmarks.contest.open_part import Opened
from benchmarks.contest.openload import Flow, Latency, Level, sustainable
from benchmarks.contest.oracle import COUNTS, WINDOW_MS, Answer, Decided, answer, key_of_address
from benchmarks.contest.process import Run, complaints
from benchmarks.contest.recovery import Recovery
from benchmarks.contest.rounds import ENGINE, TOOL, CaseResult
from benchmarks.contest.scaling import Scaling, figures, kinds
from benchmarks.contest.sizes import SMALL, Sizes, given_sizes, sizes_of
from benchmarks.harness.errors import Broken
from benchmarks.harness.traffic import SHAPES, START_MS, Traffic
from benchmarks.harness.worker import Sample
from benchmarks.peers import job

EVENTS, KEYS = 20_000, 500
MACHINE = ("commit", "cpu", "cores", "memory_gb", "kernel", "python", "kafka", "java", "load_before")


def events_of(traffic: Traffic) -> list[bytes]:
    return b"".join(traffic.chunks()).splitlines()


def peer_answer(traffic: Traffic) -> Answer:
    """The answer of the arithmetic that the contenders in Python share."""
    senders: dict[str, job.State] = {}
    tally, found = job.Tally(traffic.events), Answer()
    for line in events_of(traffic):
        event = orjson.loads(line)
        key, ts = key_of_address(event["ip"]), event["ts"]
        if key not in senders:
            senders[key] = job.fresh(ts)
            tally.keys += 1
        if count := job.take(senders[key], ts, event.get("messages", 1), tally):
            found.decisions[Decided(**orjson.loads(job.decision(key, count, ts)))] += 1
        tally.add()
    found.counts.update({name: getattr(tally, name) for name in COUNTS})
    return found


def lines(*events: tuple[int, str, int]) -> bytes:
    texts = [orjson.dumps({"ts": ts, "ip": ip, "messages": messages}) for ts, ip, messages in events]
    return b"\n".join(texts) + b"\n"


def test_rule_decides_once_per_window_at_the_first_excess() -> None:
    quiet = [(START_MS + minute * WINDOW_MS, "192.0.2.7", 2) for minute in range(3)]
    at = START_MS + 3 * WINDOW_MS
    burst = [(at, "192.0.2.7", 12), (at + 1, "192.0.2.7", 1), (at + 2, "192.0.2.7", 1)]
    found = answer([lines(*quiet, (START_MS, "192.0.2.7", 100), *burst)])
    assert found.decisions == Counter([Decided("192.0.2.7", at, 13, at + 1)])
    assert found.counts == {"events": 7, "late": 1, "keys": 1, "windows": 3, "squares": 12, "decisions": 1}


def test_burst_of_a_newcomer_is_no_decision() -> None:
    assert not answer([lines((START_MS, "192.0.2.7", 1000))]).decisions


@pytest.mark.parametrize("shape", SHAPES)
def test_contenders_arithmetic_gives_the_oracles_answer(shape: str) -> None:
    traffic = Traffic(4 * EVENTS, KEYS, shape)
    right = answer(traffic.chunks())
    assert right.counts["decisions"] > 5
    assert min(right.counts[name] for name in COUNTS) > 0
    assert peer_answer(traffic) == right


def test_wrong_counts_and_decisions_are_complaints() -> None:
    right = answer(Traffic(EVENTS, KEYS).chunks())
    assert complaints(right.counts, right.decisions, right) == []
    assert complaints(right.counts + Counter(late=1), right.decisions, right) != []
    lost = Counter(random.Random(1).sample(sorted(right.decisions), right.counts["decisions"] - 1))
    assert complaints(right.counts, lost, right) == ["1 decisions are missing, 0 are wrong or repeated"]
    assert complaints(right.counts, right.decisions + lost, right) != []


def test_only_probes_are_decided_by_the_rule() -> None:
    batches = Batches(100, 50)
    found = answer(batches.lines(tick, START_MS + tick * TICK_MS, 100) for tick in range(300))
    assert [decided.key for decided in found.decisions] == [f"198.18.{tick >> 8}.{tick & 255}" for tick in range(300)]
    assert probe(257) == 0xC6120101


def level(delay_ms: list[float], late_ms: float = 0.0) -> bool:
    """Return whether a level is sustained whose probes wait for so long."""
    flow = Flow(first_ms=0, arrived_ms={tick: tick * TICK_MS + delay for tick, delay in enumerate(delay_ms)})
    message = {"rate": 1000, "late_ms": late_ms}
    return openload.judged(flow, 0, len(delay_ms) * TICK_MS / 1000, message).borne


def test_level_is_sustained_if_latency_does_not_grow() -> None:
    assert level([20.0] * 600)
    assert level([20.0 + 300.0 * (tick % 500 == 0) for tick in range(600)])  # a pause is no growth


def test_level_is_not_sustained_if_latency_grows_or_the_load_is_late() -> None:
    assert not level([20.0 + tick * TICK_MS * 0.13 for tick in range(600)])  # 15 % too slow
    assert not level([20.0] * 600, late_ms=1000.0)


def test_level_is_not_sustained_if_its_probes_stay_undecided() -> None:
    flow = Flow(first_ms=0, arrived_ms={tick: tick * TICK_MS + 20.0 for tick in range(450)})
    found = openload.judged(flow, 0, 6.0, {"rate": 1000, "late_ms": 0.0})
    assert not found.borne
    assert found.undecided > 100


def test_sustainable_rate_is_the_highest_sustained_level() -> None:
    levels = [Level(rate, 10.0, 1.0, 0, 0.0, borne=rate < 300) for rate in (100, 200, 300)]
    assert (sustainable(levels), sustainable([])) == (200, 0)


def test_options_override_the_small_sizes() -> None:
    given = given_sizes(None, ["--small", "--peers", "Flink", "--recovery-keys", "100", "200"])

    chosen = sizes_of(given)

    assert chosen.events == SMALL.events
    assert chosen.peers == ("Flink",)
    assert chosen.recovery_keys == (100, 200)
    assert given.results is None
    assert all(case.peers in ((), ("Flink",)) for case in chosen.grid())


def run(rate: float, cpu_s: float, complaints: list[str] | None = None) -> Run:
    return Run(1000, rate, rate * 1.1, cpu_s, 100.0, 2.0, complaints or [])


def outcome() -> Outcome:
    """Two cases: on the first, Flink takes twice as many events a second as Tidegate, and Quix answers wrongly."""
    runs = {
        ENGINE: [run(1e6, 1.0), run(1.2e6, 1.0)],
        TOOL: [run(2e6, 0.5), run(2e6, 0.5)],
        FLINK: [run(2e6, 4.0), run(2.4e6, 4.0)],
        QUIX: [run(5e9, 0.1, ["keys: 1 instead of 2"])] * 2,
        FAUST: [run(4e3, 200.0)] * 2,
    }
    main, other = Sizes().main_case(), Sizes().grid()[0]
    latency = Latency(100, 1.0, 2.0, 3.0, 4.0, [])
    opened = [
        Opened(ENGINE, [Level(100, 1.0, 0.0, 0, 0.0, borne=True)], 100, latency, 3.0, []),
        Opened(STREAMS, [], 0, None, None, []),
    ]
    cases = [CaseResult(main, runs, {STREAMS: "no network"}), CaseResult(other, {ENGINE: [run(1e6, 1.0)]})]
    recoveries = [Recovery(ENGINE, 10, 2.0, 3.0, []), Recovery(FLINK, 10, 2.0, 2.5, [])]
    costs = [
        KeyCost(10_000, 100, 1e6, 1.0, 2.0, 0.2, 900.0, 950.0, 3e4, 1e3, []),
        KeyCost(10_000_000, 100, 5e5, 2.5, 3.0, 0.4, 133.0, 150.0, 210.0, 170.0, []),
    ]
    scaled = [
        Scaling(1, 0, 100, 1e6, 1.0, [300.0], [100], []),
        Scaling(2, 0, 100, 1.5e6, 1.1, [200.0, 210.0], [50, 50], []),
        Scaling(2, 1, 100, 1.2e6, 1.4, [300.0, 310.0], [50, 50], []),
    ]
    return Outcome(cases, opened, recoveries, costs, scaled)


def test_outcome_survives_being_kept() -> None:
    assert Outcome.from_dict(orjson.loads(orjson.dumps(outcome().as_dict()))) == outcome()


def test_part_measured_alone_replaces_the_older_one(tmp_path: Path) -> None:
    machines = [dict.fromkeys(MACHINE, 1) | {"time": f"2026-01-0{day}T00:00:00Z"} for day in (1, 2)]
    both = asdict(Sizes()) | {"parts": ["throughput", "grid", "recovery"]}
    first = {"machine": machines[0], "sizes": both, "figures": {"answer": "right"}} | outcome().as_dict()
    second = {"machine": machines[1], "sizes": both | {"parts": ["recovery"]}, "figures": {"answer": "right"}}
    second |= Outcome(recoveries=[Recovery(ENGINE, 10, 2.0, 9.0, [])]).as_dict()
    path = tmp_path / "kept.ndjson"
    assert whole(path) is None
    path.write_bytes(b"\n".join(map(orjson.dumps, (first, second))) + b"\n")
    kept = whole(path)
    assert kept is not None
    assert kept["machine"] == machines[0]
    assert kept["machines"] == {"recovery": machines[1]}
    found = Outcome.from_dict(kept)
    assert (found.cases, found.recoveries[0].restored_s, found.opened) == (outcome().cases, 9.0, [])
    assert "Measured alone, 2026-01-02" in "\n".join(tables.lines(kept))


def test_figures_are_ratios_within_a_round_or_none() -> None:
    line = last_line(outcome())
    assert line["events_per_s"] == 1_100_000
    assert (line["ratio_flink"], line["cpu_ratio_flink"]) == (0.5, 4.0)
    assert line["ratio_perf_tool_lz4"] == 0.55
    assert line["ratio_stock_faust"] == 275.0
    assert line["ratio_quix"] is line["ratio_kafka_streams"] is None
    assert (line["sustainable_events_per_s"], line["decision_p99_ms"]) == (100, 2.0)
    assert last_line(Outcome())["ratio_flink"] is None


def test_figures_have_the_cost_of_many_senders_and_several_workers() -> None:
    line = last_line(outcome())
    assert (line["cost_ratio_10m_10k"], line["kernel_ratio_10m_10k"]) == (2.5, 2.0)
    assert (line["table_bytes_per_key"], line["table_bytes_per_key_10m"]) == (128, 133.0)
    assert (line["rss_bytes_per_key_10m"], line["rss_growth_bytes_per_key_10m"]) == (210.0, 170.0)
    assert (line["ratio_2_workers"], line["ratio_2_workers_with_standbys"]) == (1.5, 1.2)
    assert (line["cpu_ratio_2_workers"], line["cpu_ratio_2_workers_with_standbys"]) == (1.1, 1.4)


def test_workers_are_doubled_up_to_the_number_of_cores() -> None:
    assert kinds(1) == [(1, 0)]
    assert kinds(2) == kinds(3) == [(1, 0), (2, 0), (2, 1)]
    assert kinds(64) == [(1, 0), (2, 0), (2, 1), (4, 0), (4, 1)]


def sample(time_s: float, records: int, cpu_s: float, partitions: dict[int, tuple[int, float]]) -> Sample:
    """A status: of each partition the offset that is applied and durable, and the seconds its checkpoints have taken."""
    shards = {
        str(number): {"applied": offset, "durable": offset, "checkpoint_s": took_s}
        for number, (offset, took_s) in partitions.items()
    }
    since = {"records": records, "blocks": records, "rss_most_kb": 2048}
    return Sample({"time_ms": time_s * 1000, "since_start": since, "partitions": shards}, cpu_s, 0)


def test_several_workers_are_timed_together() -> None:
    one = [sample(10.0, 0, 1.0, {0: (-1, 0.0)}), sample(12.0, 60, 3.0, {0: (59, 0.0)})]
    two = [sample(11.0, 0, 1.0, {1: (-1, 0.0)}), sample(13.0, 40, 2.0, {1: (39, 0.0)})]
    two.append(sample(14.0, 40, 2.5, {1: (39, 0.5)}))
    found = figures([one, two], {0: 59, 1: 39})
    assert (found["events"], found["shares"]) == (100, [60, 40])
    assert found["events_per_s"] == pytest.approx(100 / 3.5)  # from 10 to 13, and half a second of saving
    assert found["cpu_s_per_million"] == pytest.approx(3.5 / 100 * 1e6)
    assert found["rss_most_mb"] == [2.0, 2.0]


def test_worker_without_a_share_is_no_result() -> None:
    one = [sample(10.0, 0, 1.0, {0: (-1, 0.0)}), sample(12.0, 60, 3.0, {0: (59, 0.0)})]
    with pytest.raises(Broken, match="did not share"):
        figures([one, [sample(11.0, 0, 1.0, {})]], {0: 59})


def test_losses_and_wrong_answers_are_listed() -> None:
    found = losses(outcome())
    assert any("Flink takes 2.00 times as many events a second" in each for each in found)
    assert any("Flink needs 2.5 s, Tidegate 3.0 s" in each for each in found)
    assert any("costs 2.50 times one of 10,000" in each for each in found)
    assert any("10,000,000 senders take 210 bytes each" in each for each in found)
    assert not any(FAUST in each for each in found)
    assert outcome().wrong == [f"{Sizes().main_case().name}: {QUIX}: keys: 1 instead of 2"] * 2


def test_pages_show_all_contenders_but_no_rate_of_a_wrong_answer() -> None:
    kept = {"machine": dict.fromkeys(MACHINE, 1) | {"time": "2026-01-01T00:00:00Z"}, "sizes": asdict(Sizes())}
    kept |= {"figures": {"answer": "wrong"}} | outcome().as_dict()
    page, front = ("\n".join(drawn) for drawn in (tables.lines(kept), tables.summary(kept)))
    assert f"| {QUIX} | **wrong answer** |" in page
    assert f"Left out: {STREAMS}: no network." in page
    assert "| **Tidegate** |" in page
    assert "| 10,000,000 | 500 | 2.50 | 3.00 | 0.400 | 133 | 150 | 170 | 210 |" in page
    assert "| 2 | 1 | 1200 (1200–1200) | 1.20 (1.20–1.20) | 1.40 (1.40–1.40) | 300 + 310 |" in page
    assert QUIX not in front
    charts = plots.charts(outcome(), Sizes().main_case().name)
    assert QUIX not in charts[plots.RATES].values
    assert ElementTree.fromstring(plots.bars("a < b", charts[plots.RATES].values, 1)).tag.endswith("svg")
