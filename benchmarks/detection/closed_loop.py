"""What a deferral costs honest senders in minutes, and whether the loop of decision and retry oscillates.

    make closed-loop                         # seeded; a few minutes; keeps the result and prints the table

Established senders (30 working days of history) send several times their usual hour, others are known for two days or new;
each retries as common programs do. Spammers give up or insist. The answer is checked: an established sender's hour at three
times its usual volume is delivered within `BOUND_MIN`, and no throttle begins after the last new message, which only
retries could have caused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.detection import retry_model as retrying
from benchmarks.detection.retry_model import DAY_MS, HOUR_MS, MINUTE_MS, Fate, Loop, Schedule, Sender, office_days
from benchmarks.harness import results
from benchmarks.harness.machine import stamp
from benchmarks.harness.pages import Part
from engine.config.load import load_settings
from topics.keys import key_of

OUT = results.FOLDER / "closed_loop.ndjson"
README = Path(__file__).parents[1] / "README.md"
PART = Part("closed loop", "make closed-loop")
MONDAY_MS = 1_762_732_800_000
SEED, SENDERS = 1, 24
BOUND_MIN = 15.0
LEAST_PER_HOUR, MOST_PER_HOUR = 2.0, 60.0
HONEST: dict[str, Schedule] = {"postfix": retrying.postfix, "exim": retrying.exim, "half-hourly": retrying.half_hourly}
SPAM: dict[str, Schedule] = {"gives up": retrying.once, "insists": retrying.insisting}


class Scenario(NamedTuple):
    """``days``: working days of history; ``factor``: of the usual hour, for an hour; ``burst``: messages in an hour of a
    sender without one."""

    name: str
    days: int
    factor: float
    burst: int
    schedules: dict[str, Schedule]


SCENARIOS = (
    Scenario("established, an hour at ×3", 30, 3.0, 0, HONEST),
    Scenario("established, an hour at ×10", 30, 10.0, 0, HONEST),
    Scenario("established, an hour at ×30", 30, 30.0, 0, HONEST),
    Scenario("known for two days, an hour at ×3", 2, 3.0, 0, HONEST),
    Scenario("new, 200 messages in an hour", 0, 0.0, 200, HONEST),
    Scenario("spam from a new address, 1,000 in an hour", 0, 0.0, 1000, SPAM),
)
PROMISED = SCENARIOS[0]


def simulate(
    scenario: Scenario, schedule: Schedule, count: int, seed: int, *, retries_count: bool = False
) -> list[Fate]:
    """The fates of ``count`` senders, each on its own."""
    random = np.random.default_rng([seed, SCENARIOS.index(scenario)])
    decides_at_once = {"topics.partitions": 1, "worker.rows_per_partition": 1024, "model.learning_days": 0}
    settings = load_settings(None, {}, decides_at_once)
    burst_ms = MONDAY_MS + 6 * 7 * DAY_MS + DAY_MS + 10 * HOUR_MS  # a Tuesday at ten
    first_ms = burst_ms - 10 * HOUR_MS - (scenario.days // 5 * 7 + scenario.days % 5) * DAY_MS
    rates = np.exp(random.uniform(np.log(LEAST_PER_HOUR), np.log(MOST_PER_HOUR), count)).tolist()
    past, senders = [], []
    for number, per_hour in enumerate(rates):
        key = key_of(f"198.51.{number}.25")
        past += [(ts_ms, key) for ts_ms in office_days(random, per_hour, scenario.days, first_ms)]
        messages = scenario.burst or random.poisson(per_hour * scenario.factor)
        sent = (burst_ms + random.integers(0, HOUR_MS, messages)).tolist()
        if scenario.days:
            sent += office_days(random, per_hour, 4, burst_ms - 10 * HOUR_MS)
        senders.append(Sender(key, sorted(sent), burst_ms + HOUR_MS, schedule))
    loop = Loop(settings, retries_count=retries_count)
    loop.history(sorted(past))
    return loop.run(senders)


def row(fates: list[Fate]) -> dict[str, Any]:
    """The figures of one scenario and schedule."""
    delays = np.array([delay_ms for fate in fates for delay_ms in fate.delays_ms], np.float64) / MINUTE_MS
    deferred = delays[delays > 0]
    given_up, messages = sum(fate.given_up for fate in fates), len(delays) + sum(fate.given_up for fate in fates)

    def quantile(share: float) -> float:
        return round(float(np.quantile(deferred, share)), 1) if len(deferred) else 0.0

    return {
        "messages": messages,
        "at_once": round((messages - len(deferred) - given_up) / messages, 4),
        "delivered": round(len(delays) / messages, 4),
        "deferred_mean_min": round(float(deferred.mean()), 1) if len(deferred) else 0.0,
        "deferred_median_min": quantile(0.5),
        "deferred_p95_min": quantile(0.95),
        "longest_min": quantile(1.0),
        "mean_min": round(float(delays.sum()) / messages, 2),
        "attempts": round(sum(fate.attempts for fate in fates) / messages, 2),
        "most_spells": max(len(fate.backlogs) for fate in fates),
        "damped": all(fate.echoes == sorted(set(fate.echoes), reverse=True) for fate in fates),
        "echoes": max((fate.echoes for fate in fates), key=len),
    }


def rows(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """All scenarios with all their schedules, and two of them again with retries counted as new mail."""
    for scenario in SCENARIOS:
        for name, schedule in scenario.schedules.items():
            yield {"scenario": scenario.name, "retries": name, **row(simulate(scenario, schedule, count, seed))}
    for scenario in SCENARIOS[1:3]:
        fates = simulate(scenario, retrying.postfix, count, seed, retries_count=True)
        yield {"scenario": scenario.name, "retries": "postfix, retries counted as new mail", **row(fates)}


def broken_promises(found: list[dict[str, Any]]) -> list[str]:
    """What the figures show that must not be."""
    wrong = []
    for figures in found:
        said = f"{figures['scenario']}, {figures['retries']}"
        if figures["scenario"] == PROMISED.name and figures["longest_min"] > BOUND_MIN:
            wrong.append(f"{said}: delivered after {figures['longest_min']} min, the bound is {BOUND_MIN:g}")
        if not figures["damped"]:
            wrong.append(f"{said}: a throttle after the burst began with no less waiting than the one before")
        if figures["delivered"] < 1 and figures["retries"] not in SPAM:
            wrong.append(f"{said}: honest mail was given up")
    return wrong


WAITS = ("deferred_mean_min", "deferred_median_min", "deferred_p95_min", "longest_min")
HEADS = (
    "sender", "retries", "at once", "delivered", "a deferred message waits, min: mean, median, p95, longest",
    "mean of all, min", "attempts", "throttles, most", "waiting when one began after the burst",
)  # fmt: skip


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """The figures, Markdown."""
    yield f"| {' | '.join(HEADS)} |"
    yield f"|---|---|{'---:|' * (len(HEADS) - 2)}"
    for line in found:
        waits = ", ".join(f"{line[name]:g}" for name in WAITS) if line["longest_min"] else "–"
        backlogs = ", ".join(map(str, line["echoes"])) or "–"
        yield (
            f"| {line['scenario']} | {line['retries']} | {line['at_once']:.1%} | {line['delivered']:.1%} | {waits} "
            f"| {line['mean_min']:g} | {line['attempts']:g} | {line['most_spells']} | {backlogs} |"
        )


def text(found: list[dict[str, Any]]) -> str:
    """What stands between the marks in README.md."""
    return "\n".join(["", "", *table(found), "", ""])


def main() -> int:
    """Simulate, print, keep, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--senders", type=int, default=SENDERS, help="in each scenario")
    parser.add_argument("--out", type=Path, default=OUT, help="where the result is appended")
    options = parser.parse_args()
    found = []
    for figures in rows(options.senders, options.seed):
        print(f"{figures['scenario']}, {figures['retries']}: done", file=sys.stderr, flush=True)
        found.append(figures)
    print(text(found))
    wrong = broken_promises(found)
    print(f"answer: {'; '.join(wrong) or 'right'}")
    results.keep({"machine": stamp(), "seed": options.seed, "senders": options.senders, "rows": found}, options.out)
    if options.out == OUT:
        PART.write(README, text(found))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
