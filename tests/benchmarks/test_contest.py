"""The contest: its events are what they should be, its answer is right, and what differs from it is told."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from xml.etree import ElementTree

import orjson
import pytest

from benchmarks.contest import openload, plots, tables
from benchmarks.contest.contenders import FAUST, FLINK, QUIX, STREAMS
from benchmarks.contest.figures import Outcome, last_line, losses
from benchmarks.contest.load import TICK_MS, Batches, probe
from benchmarks.contest.opened import Opened
from benchmarks.contest.openload import Flow, Latency, Level, sustainable
from benchmarks.contest.oracle import COUNTS, WINDOW_MS, Answer, Decided, answer, key_of_address
from benchmarks.contest.recovery import Recovery
from benchmarks.contest.rounds import ENGINE, TOOL, CaseResult
from benchmarks.contest.running import Run, complaints
from benchmarks.contest.sizes import sizes
from benchmarks.contest.traffic import SHAPES, START_MS, Traffic
from benchmarks.peers import job
from topics.keys import key_of, key_text

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


@pytest.mark.parametrize("shape", SHAPES)
def test_a_traffic_is_the_same_each_time_and_another_with_another_seed(shape: str) -> None:
    found = events_of(Traffic(EVENTS, KEYS, shape))
    assert len(found) == EVENTS
    assert found == events_of(Traffic(EVENTS, KEYS, shape)) != events_of(Traffic(EVENTS, KEYS, shape, seed=2))


def test_batches_change_nothing_but_the_draw() -> None:
    assert len(events_of(Traffic(EVENTS, KEYS, chunk=64))) == EVENTS


def test_shapes_are_as_told() -> None:
    most = {}
    for shape in SHAPES:
        found = Counter(key_of_address(orjson.loads(line)["ip"]) for line in events_of(Traffic(EVENTS, KEYS, shape)))
        most[shape] = found.most_common(1)[0][1] / EVENTS
    assert most["uniform"] < 0.05 < most["zipf"] < 0.3
    assert 0.45 < most["hot"] < 0.55


def test_a_tenth_of_the_senders_or_all_are_ipv6_networks() -> None:
    for share in (0.1, 1.0):
        keys = {key_of_address(orjson.loads(line)["ip"]) for line in events_of(Traffic(EVENTS, KEYS, ipv6_share=share))}
        assert sum("/64" in key for key in keys) / len(keys) == pytest.approx(share, abs=0.05)


def test_keys_are_those_that_the_records_have() -> None:
    for line in events_of(Traffic(2_000, KEYS, ipv6_share=0.5)):
        ip = orjson.loads(line)["ip"]
        assert key_of_address(ip) == key_text(key_of(ip))


def test_some_events_are_out_of_order_and_some_are_late() -> None:
    stamps = [orjson.loads(line)["ts"] for line in events_of(Traffic(EVENTS, KEYS))]
    behind = [max(0, before - ts) for before, ts in itertools.pairwise(stamps)]
    assert 0.01 < sum(each > 0 for each in behind) / EVENTS < 0.05
    assert 0.003 < sum(each > WINDOW_MS // 2 for each in behind) / EVENTS < 0.007


def lines(*events: tuple[int, str, int]) -> bytes:
    texts = [orjson.dumps({"ts": ts, "ip": ip, "messages": messages}) for ts, ip, messages in events]
    return b"\n".join(texts) + b"\n"


def test_the_rule_by_hand() -> None:
    quiet = [(START_MS + minute * WINDOW_MS, "192.0.2.7", 2) for minute in range(3)]
    at = START_MS + 3 * WINDOW_MS
    burst = [(at, "192.0.2.7", 12), (at + 1, "192.0.2.7", 1), (at + 2, "192.0.2.7", 1)]
    found = answer([lines(*quiet, (START_MS, "192.0.2.7", 100), *burst)])
    assert found.decisions == Counter([Decided("192.0.2.7", at, 13, at + 1)])
    assert found.counts == {"events": 7, "late": 1, "keys": 1, "windows": 3, "squares": 12, "decisions": 1}


def test_a_newcomers_burst_is_no_decision() -> None:
    assert not answer([lines((START_MS, "192.0.2.7", 1000))]).decisions


@pytest.mark.parametrize("shape", SHAPES)
def test_the_contenders_arithmetic_gives_the_oracles_answer(shape: str) -> None:
    traffic = Traffic(4 * EVENTS, KEYS, shape)
    right = answer(traffic.chunks())
    assert right.counts["decisions"] > 5
    assert min(right.counts[name] for name in COUNTS) > 0
    assert peer_answer(traffic) == right


def test_what_is_wrong_is_told() -> None:
    right = answer(Traffic(EVENTS, KEYS).chunks())
    assert complaints(right.counts, right.decisions, right) == []
    assert complaints(right.counts + Counter(late=1), right.decisions, right) != []
    lost = Counter(random.Random(1).sample(sorted(right.decisions), right.counts["decisions"] - 1))
    assert complaints(right.counts, lost, right) == ["1 decisions are missing, 0 are wrong or there twice"]
    assert complaints(right.counts, right.decisions + lost, right) != []


def test_a_probe_is_decided_by_the_jobs_rule_and_no_other_sender_is() -> None:
    batches = Batches(100, 50)
    found = answer(batches.lines(tick, START_MS + tick * TICK_MS, 100) for tick in range(300))
    assert [decided.key for decided in found.decisions] == [f"198.18.{tick >> 8}.{tick & 255}" for tick in range(300)]
    assert probe(257) == 0xC6120101


def level(delay_ms: list[float], late_ms: float = 0.0) -> bool:
    """Whether a level is borne whose probes wait for so long."""
    flow = Flow(first_ms=0, arrived_ms={tick: tick * TICK_MS + delay for tick, delay in enumerate(delay_ms)})
    told = {"rate": 1000, "late_ms": late_ms}
    return openload.judged(flow, 0, len(delay_ms) * TICK_MS / 1000, told).borne


def test_a_level_is_borne_if_latency_does_not_grow() -> None:
    assert level([20.0] * 600)
    assert level([20.0 + 300.0 * (tick % 500 == 0) for tick in range(600)])  # a pause is no growth


def test_a_level_is_not_borne_if_latency_grows_or_the_load_is_late() -> None:
    assert not level([20.0 + tick * TICK_MS * 0.13 for tick in range(600)])  # 15 % too slow
    assert not level([20.0] * 600, late_ms=1000.0)


def test_a_level_is_not_borne_if_its_probes_stay_undecided() -> None:
    flow = Flow(first_ms=0, arrived_ms={tick: tick * TICK_MS + 20.0 for tick in range(450)})
    found = openload.judged(flow, 0, 6.0, {"rate": 1000, "late_ms": 0.0})
    assert not found.borne
    assert found.undecided > 100


def test_the_sustainable_rate_is_the_highest_level_borne() -> None:
    levels = [Level(rate, 10.0, 1.0, 0, 0.0, borne=rate < 300) for rate in (100, 200, 300)]
    assert (sustainable(levels), sustainable([])) == (200, 0)


def test_sizes_of_the_command_line() -> None:
    chosen = sizes(["--small", "--peers", "Flink", "--recovery-keys", "100", "200"])
    assert chosen.peers == ("Flink",)
    assert chosen.recovery_keys == (100, 200)
    assert chosen.results is None
    assert all(case.peers in ((), ("Flink",)) for case in chosen.grid())


def run(rate: float, cpu_s: float, complaints: list[str] | None = None) -> Run:
    return Run(1000, rate, rate * 1.1, 1000 / rate, cpu_s, cpu_s, 100.0, 2.0, complaints or [])


def outcome() -> Outcome:
    """Two cases: on the first, Flink takes twice as many events a second as Tidegate, and Quix answers wrongly."""
    runs = {
        ENGINE: [run(1e6, 1.0), run(1.2e6, 1.0)],
        TOOL: [run(2e6, 0.5), run(2e6, 0.5)],
        FLINK: [run(2e6, 4.0), run(2.4e6, 4.0)],
        QUIX: [run(5e9, 0.1, ["keys: 1 instead of 2"])] * 2,
        FAUST: [run(4e3, 200.0)] * 2,
    }
    main, other = sizes([]).main_case(), sizes([]).grid()[0]
    latency = Latency(100, 10, 1.0, 2.0, 3.0, 4.0, 0.0, [])
    opened = [
        Opened(ENGINE, [Level(100, 1.0, 0.0, 0, 0.0, borne=True)], 100, latency, 3.0, []),
        Opened(STREAMS, [], 0, None, None, []),
    ]
    cases = [CaseResult(main, runs, {STREAMS: "no network"}), CaseResult(other, {ENGINE: [run(1e6, 1.0)]})]
    return Outcome(cases, opened, [Recovery(ENGINE, 10, 2.0, 3.0, []), Recovery(FLINK, 10, 2.0, 2.5, [])])


def test_an_outcome_is_kept_whole() -> None:
    assert Outcome.from_dict(orjson.loads(orjson.dumps(outcome().as_dict()))) == outcome()


def test_figures_are_ratios_within_a_round_and_none_where_nothing_was_measured() -> None:
    line = last_line(outcome())
    assert line["events_per_s"] == 1_100_000
    assert (line["ratio_flink"], line["cpu_ratio_flink"]) == (0.5, 4.0)
    assert line["ratio_perf_tool_lz4"] == 0.55
    assert line["ratio_stock_faust"] == 275.0
    assert line["ratio_quix"] is line["ratio_kafka_streams"] is None
    assert (line["sustainable_events_per_s"], line["decision_p99_ms"]) == (100, 2.0)
    assert last_line(Outcome())["ratio_flink"] is None


def test_losses_and_wrong_answers_are_told() -> None:
    told = losses(outcome())
    assert any("Flink takes 2.00 times as many events a second" in each for each in told)
    assert any("Flink needs 2.5 s, Tidegate 3.0 s" in each for each in told)
    assert not any(FAUST in each for each in told)
    assert outcome().wrong == [f"{sizes([]).main_case().name}: {QUIX}: keys: 1 instead of 2"] * 2


def test_pages_show_everybody_and_no_rate_of_a_wrong_answer() -> None:
    kept = {"machine": dict.fromkeys(MACHINE, 1) | {"time": "2026-01-01T00:00:00Z"}, "sizes": sizes([]).as_dict()}
    kept |= {"figures": {"answer": "wrong"}} | outcome().as_dict()
    page, front = ("\n".join(drawn) for drawn in (tables.lines(kept), tables.summary(kept)))
    assert f"| {QUIX} | **wrong answer** |" in page
    assert f"Left out: {STREAMS}: no network." in page
    assert "| **Tidegate** |" in page
    assert QUIX not in front
    charts = plots.charts(outcome(), sizes([]).main_case().name)
    assert QUIX not in charts[plots.RATES].values
    assert ElementTree.fromstring(plots.bars("a < b", charts[plots.RATES].values, 1)).tag.endswith("svg")
