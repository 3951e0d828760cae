"""The cost of a deferral for honest senders in minutes, and whether the loop of decision and retry oscillates.

    make closed-loop                         # seeded; a few minutes; keeps the result and writes the table

Established senders (30 working days of history) send several times their usual hour; others are known for two days, or new.
Each retries as common programs do. Spammers give up or insist. The answer is checked: an established sender's hour at three
times its usual volume is delivered within `BOUND_MIN`, and the loop is damped: each throttle that begins after the burst,
which only retries can cause, begins with fewer waiting messages than the one before.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.detection import retry_model as retry
from benchmarks.detection.retry_model import DAY_MS, HOUR_MS, MINUTE_MS, Fate, Loop, Schedule, Sender, office_days
from benchmarks.harness import command, results
from benchmarks.harness.command import Report, log_progress, new_parser
from benchmarks.harness.results import ROOT, GeneratedPart, table
from engine.config.load import load_settings
from topics.keys import key_of

KEPT = results.FOLDER / "closed_loop.ndjson"
PAGE = ROOT / "benchmarks" / "README.md"
PART = GeneratedPart("closed loop", "make closed-loop")
MONDAY_MS = 1_762_732_800_000
BOUND_MIN = 15.0
LEAST_PER_HOUR, MOST_PER_HOUR = 2.0, 60.0
HONEST: dict[str, Schedule] = {"postfix": retry.postfix, "exim": retry.exim, "half-hourly": retry.half_hourly}
SPAM: dict[str, Schedule] = {"gives up": retry.once, "insists": retry.insisting}


class Scenario(NamedTuple):
    """A kind of sender, and its burst of one hour."""

    name: str
    days: int  # working days of history
    factor: float  # of the usual hour, for an hour
    burst: int  # messages in an hour, of a sender without a usual hour
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
WAITS = ("deferred_mean_min", "deferred_median_min", "deferred_p95_min", "longest_min")
HEAD = (
    "sender | retries | immediately | delivered | a deferred message waits, min: mean, median, p95, longest"
    " | mean of all, min | attempts | throttles, most | waiting when one began after the burst"
)


def simulate(
    scenario: Scenario, schedule: Schedule, count: int, seed: int, *, retries_count: bool = False
) -> list[Fate]:
    """Return the fates of ``count`` senders that don't influence each other."""
    random = np.random.default_rng([seed, SCENARIOS.index(scenario)])
    options = {"topics.partitions": 1, "worker.rows_per_partition": 1024, "model.learning_days": 0}
    burst_ms = MONDAY_MS + 6 * 7 * DAY_MS + DAY_MS + 10 * HOUR_MS  # a Tuesday at ten
    first_ms = burst_ms - 10 * HOUR_MS - (scenario.days // 5 * 7 + scenario.days % 5) * DAY_MS
    rates = np.exp(random.uniform(np.log(LEAST_PER_HOUR), np.log(MOST_PER_HOUR), count)).tolist()
    past, senders = [], []
    for number, per_hour in enumerate(rates):
        key = key_of(f"198.51.{number}.25")
        past += [(ts_ms, key) for ts_ms in office_days(random, per_hour, scenario.days, first_ms)]
        messages = scenario.burst or random.poisson(per_hour * scenario.factor)
        sent_ms = (burst_ms + random.integers(0, HOUR_MS, messages)).tolist()
        if scenario.days:
            sent_ms += office_days(random, per_hour, 4, burst_ms - 10 * HOUR_MS)
        senders.append(Sender(key, sorted(sent_ms), burst_ms + HOUR_MS, schedule))
    loop = Loop(load_settings(None, {}, options), retries_count=retries_count)
    loop.history(sorted(past))
    return loop.run(senders)


def row(fates: list[Fate]) -> dict[str, Any]:
    """Return the figures of one scenario and schedule."""
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
    """Return all scenarios with all their schedules, and two of them again with retries counted as new mail."""
    for scenario in SCENARIOS:
        for name, schedule in scenario.schedules.items():
            yield {"scenario": scenario.name, "retries": name, **row(simulate(scenario, schedule, count, seed))}
    for scenario in SCENARIOS[1:3]:
        fates = simulate(scenario, retry.postfix, count, seed, retries_count=True)
        yield {"scenario": scenario.name, "retries": "postfix, retries counted as new mail", **row(fates)}


def broken_promises(found: list[dict[str, Any]]) -> list[str]:
    """Return a line for each promise that the figures break."""
    wrong = []
    for figures in found:
        which = f"{figures['scenario']}, {figures['retries']}"
        if figures["scenario"] == PROMISED.name and figures["longest_min"] > BOUND_MIN:
            wrong.append(f"{which}: delivered after {figures['longest_min']} min, the bound is {BOUND_MIN:g}")
        if not figures["damped"]:
            wrong.append(
                f"{which}: a throttle after the burst began with no fewer messages waiting than the one before"
            )
        if figures["delivered"] < 1 and figures["retries"] not in SPAM:
            wrong.append(f"{which}: honest mail was given up")
    return wrong


def _table_row(figures: dict[str, Any]) -> list[str]:
    waits = ", ".join(f"{figures[name]:g}" for name in WAITS) if figures["longest_min"] else "–"
    backlogs = ", ".join(map(str, figures["echoes"])) or "–"
    shares = [f"{figures['at_once']:.1%}", f"{figures['delivered']:.1%}"]
    means = [f"{figures['mean_min']:g}", f"{figures['attempts']:g}"]
    return [figures["scenario"], figures["retries"], *shares, waits, *means, f"{figures['most_spells']}", backlogs]


def text(found: list[dict[str, Any]]) -> str:
    """Return the text between the marks in the page."""
    return "\n".join(["", "", *table(HEAD, [_table_row(figures) for figures in found], texts=2), "", ""])


def measure(given: argparse.Namespace, _folder: Path) -> Report:
    """Simulate all scenarios and judge them."""
    found = []
    for figures in rows(given.senders, given.seed):
        log_progress(f"{figures['scenario']}, {figures['retries']}: done")
        found.append(figures)
    wrong = broken_promises(found)
    return Report(
        {"answer": "wrong" if wrong else "right", "scenarios": len(found)},
        {"rows": found},
        lambda _: [text(found)],
        wrong=wrong,
        write_pages=lambda: PART.write(PAGE, text(found)),
    )


def main() -> int:
    """Run the command line; return the exit status."""
    parser = new_parser(__doc__, KEPT, small=False)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--senders", type=int, default=24, help="in each scenario")
    return command.run(measure, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
