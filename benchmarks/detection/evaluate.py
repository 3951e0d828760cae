"""Score decisions on labelled replays of real mail, from outside, by simulating the edge.

    make evaluate                                    # the default configuration; its last line is one JSON object
    make evaluate ARGS="--delay 2000 --volume 5"     # decisions reach the edge 2 s late; five times the messages
    make evaluate ARGS="--full"                      # all settings, volumes, delays, the ablation; rewrites the tables

Each trace is also cut and replayed in part: a decision that needed later events ends the run. ``--through-kafka`` sends
every trace through a worker on an embedded broker and compares its decisions with the replay's, byte for byte.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks.detection import ablation, evaluation_tables, traces
from benchmarks.detection.traces import Trace
from benchmarks.harness import command, topic_space
from benchmarks.harness.command import Report, log_progress
from benchmarks.harness.errors import Broken, WrongAnswer
from benchmarks.harness.results import ROOT
from benchmarks.harness.topic_space import TopicSpace
from benchmarks.harness.worker import COMMAND, Worker
from engine.broker import EmbeddedBroker
from engine.config.load import Settings, load_settings
from engine.pipeline.build import PEAK_MEMORY

HEADLINE = ("attack_admitted", "legit_deferred", "mean_kind_admitted", "recall", "legit_with_history_deferred")


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    budget: float  # model.sensitivity, in percent
    partitions: int
    volume: int = 1  # each event's messages are multiplied by it
    detector: str = PEAK_MEMORY
    delays_ms: tuple[int, ...] = (0,)  # from a decision until the edge has it, a row each

    def settings(self) -> Settings:
        """Return the configuration: everything else has its default, whatever the environment holds."""
        chosen = {
            "model.sensitivity": f"{self.budget:g}",
            "topics.partitions": self.partitions,
            "model.detector": self.detector,
        }
        return load_settings(None, {}, chosen)


@dataclass(slots=True)
class Evaluation:
    """A run over all traces."""

    folder: Path
    causal: bool  # each trace is also replayed in part
    known: list[Trace] = field(default_factory=traces.traces)

    def rows(self, setting: Setting) -> list[dict[str, Any]]:
        """Return a row for each delay."""
        settings = setting.settings()
        reports: dict[int, list[Path]] = {delay_ms: [] for delay_ms in setting.delays_ms}
        withdrawn = 0
        for recorded in self.known:
            trace = recorded if setting.volume == 1 else traces.multiplied(recorded, setting.volume, self.folder)
            lines = traces.replayed(trace.events, settings)
            withdrawn += traces.withdrawn(lines)
            verdict = traces.check_causality(trace, lines, settings, self.folder) if self.causal else ""
            for delay_ms, found in reports.items():
                found.append(traces.scored(trace, lines, delay_ms, self.folder))
            log_progress(f"{trace.name}: {len(lines):,} decisions{f'; {verdict}' if verdict else ''}")
        columns = {name: value for name, value in asdict(setting).items() if name != "delays_ms"}
        log_progress(f"{withdrawn} decisions withdrawn by the circuit breaker")
        return [
            {**columns, "delay_ms": delay_ms, "withdrawn": withdrawn, **traces.pooled(found)}
            for delay_ms, found in reports.items()
        ]

    def through_kafka(self, partitions: Sequence[int]) -> list[dict[str, Any]]:
        """Send every trace through Kafka and a worker; `WrongAnswer` unless the decisions are the replay's."""
        rows = []
        with EmbeddedBroker(self.folder / "broker") as broker:
            for count in partitions:
                for trace in self.known:
                    space = TopicSpace(broker.bootstrap, f"{trace.name}-{count}-", partitions=count)
                    events = self._play(space, trace)
                    theirs = {text for _, text in topic_space.published(space)}
                    ours = set(traces.replayed(trace.events, space.settings()))
                    if theirs != ours:
                        raise WrongAnswer(f"{trace.name} at {count} partitions: {len(theirs ^ ours)} decisions differ")
                    rows.append({"trace": trace.name, "partitions": count, "events": events, "decisions": len(ours)})
                    log_progress(f"{trace.name}: {events:,} events at {count} partitions, {len(ours)} decisions, equal")
        return rows

    def _play(self, space: TopicSpace, trace: Trace) -> int:
        """Send a trace with `tidegate produce` and let a worker apply it; return the events that it counted."""
        topic_space.make_topics(space)
        environment = space.environment(TIDEGATE_WORKER_CHECKPOINT_INTERVAL_MS="200")
        produce = [*COMMAND, "produce", str(trace.events)]
        done = subprocess.run(produce, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Broken(f"tidegate produce: {done.stderr.strip()}")
        with Worker(environment, self.folder) as worker:
            return int(worker.wait_durable(topic_space.last_offsets(space))[-1].status["events"])

    def ablations(self) -> list[dict[str, Any]]:
        """Return a row for each removable part of the model, each from a process with other constants."""
        rows = []
        for variant in ablation.VARIANTS:
            words = [sys.executable, "-m", ablation.__name__, variant]
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Broken(f"ablation {variant!r}: {done.stderr.strip()}")
            rows.append({"variant": variant, **orjson.loads(done.stdout)})
            log_progress(f"{variant}: scored")
        return rows


def full_settings(default: Setting) -> list[Setting]:
    """Return the default, and the settings that are compared with it."""
    budget, count = default.budget, default.partitions
    return [
        Setting(budget, count, delays_ms=(0, 250, 2000)),
        Setting(2 * budget, count),
        Setting(budget / 5, count),
        Setting(budget, 1),
        Setting(budget, 8),
        Setting(budget, count, 5),
        Setting(budget, count, 20),
        Setting(budget, count, detector="river"),
    ]


def measure(given: argparse.Namespace, folder: Path) -> Report:
    """Evaluate all settings that were asked for; the first row is the headline."""
    evaluation = Evaluation(folder, not given.no_causal)
    chosen = Setting(given.budget, given.partitions, given.volume, given.detector, (given.delay,))
    rows = evaluation.rows(full_settings(chosen)[0] if given.full else chosen)
    evaluation.causal = False
    for setting in full_settings(chosen)[1:] if given.full else ():
        rows += evaluation.rows(setting)
    kept = {
        "rows": rows,
        "ablation": evaluation.ablations() if given.full else [],
        "through_kafka": evaluation.through_kafka((1, 8)) if given.through_kafka else [],
    }
    headline = {name: rows[0][name] for name in HEADLINE}
    return Report(headline, kept, evaluation_tables.everything, write_pages=evaluation_tables.write)


def main() -> int:
    """Run the command line; return the exit status."""
    default = load_settings(None, {}, {})
    budget, partitions = default.model.budget_percent, default.topics.partitions
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=budget, metavar="PERCENT", help="model.sensitivity")
    parser.add_argument("--partitions", type=int, default=partitions, help="topics.partitions")
    parser.add_argument("--delay", type=int, default=0, metavar="MS", help="from a decision until the edge has it")
    parser.add_argument("--volume", type=int, default=1, metavar="FACTOR", help="multiply each event's messages")
    parser.add_argument("--detector", choices=(PEAK_MEMORY, "river"), default=PEAK_MEMORY, help="model.detector")
    parser.add_argument("--no-causal", action="store_true", help="leave the causality check out")
    parser.add_argument("--through-kafka", action="store_true", help="also compare a worker on Kafka with the replay")
    parser.add_argument("--full", action="store_true", help="everything; keep the result and rewrite the tables")
    given = parser.parse_args()
    given.results = evaluation_tables.KEPT if given.full else None
    return command.run(measure, given)


if __name__ == "__main__":
    sys.exit(main())
