"""How right the engine is: decisions on labelled replays of real mail, scored from outside by simulating the edge.

    make evaluate                                    # the default configuration; its last line is one JSON object
    make evaluate ARGS="--delay 2000 --volume 5"     # decisions reach the edge 2 s late; five times the messages
    make evaluate ARGS="--full"                      # all settings, volumes, delays, the ablation; rewrites the tables

Each trace is also cut and replayed in part: a decision that needed what came later ends the run. ``--through-kafka`` sends
every trace through a worker on an embedded broker and holds its decisions to the replay's, octet for octet.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks.detection import ablation, evaluation_tables
from benchmarks.detection import traces as scoring
from benchmarks.detection.kafka_traces import Kafka
from benchmarks.harness import results
from benchmarks.harness.cluster import published
from benchmarks.harness.errors import Broken
from benchmarks.harness.machine import stamp
from engine.broker import EmbeddedBroker
from engine.config.load import Settings, load_settings
from engine.pipeline.build import PEAK_MEMORY

HEADLINE = ("attack_admitted", "legit_deferred", "mean_kind_admitted", "recall", "legit_with_history_deferred")


@dataclass(frozen=True, slots=True)
class Setting:
    """What one row of the table stands for. ``budget``: model.sensitivity, in percent; ``volume``: each event's messages are
    multiplied by it; ``delays_ms``: from a decision until the edge has it, a row each."""

    budget: float
    partitions: int
    volume: int = 1
    detector: str = PEAK_MEMORY
    delays_ms: tuple[int, ...] = (0,)

    def settings(self) -> Settings:
        """The configuration: everything else is at its default, whatever the environment says."""
        chosen = {
            "model.sensitivity": f"{self.budget:g}",
            "topics.partitions": self.partitions,
            "model.detector": self.detector,
        }
        return load_settings(None, {}, chosen)


@dataclass(slots=True)
class Evaluation:
    """A run over all traces. ``causal``: whether each trace is also replayed in part."""

    folder: Path
    causal: bool
    traces: list[scoring.Trace] = field(default_factory=scoring.traces)
    started_s: float = field(default_factory=time.monotonic)

    def rows(self, setting: Setting) -> list[dict[str, Any]]:
        """A row for each delay."""
        settings = setting.settings()
        reports: dict[int, list[Path]] = {delay_ms: [] for delay_ms in setting.delays_ms}
        taken_back = 0
        for known in self.traces:
            trace = known if setting.volume == 1 else scoring.multiplied(known, setting.volume, self.folder)
            lines = scoring.replayed(trace.events, settings)
            taken_back += scoring.withdrawn(lines)
            said = scoring.check_causality(trace, lines, settings, self.folder) if self.causal else ""
            for delay_ms, found in reports.items():
                found.append(scoring.scored(trace, lines, delay_ms, self.folder))
            self.say(f"{trace.name}: {len(lines):,} decisions{f'; {said}' if said else ''}")
        of = {name: value for name, value in asdict(setting).items() if name != "delays_ms"}
        self.say(f"{taken_back} decisions taken back by the guard")
        return [
            {**of, "delay_ms": delay_ms, "withdrawn": taken_back, **scoring.pooled(found)}
            for delay_ms, found in reports.items()
        ]

    def through_kafka(self, partitions: list[int]) -> list[dict[str, Any]]:
        """Send every trace through Kafka and a worker; `Broken` unless the decisions are the replay's."""
        rows = []
        with EmbeddedBroker(self.folder / "broker") as broker:
            for count in partitions:
                for trace in self.traces:
                    run = Kafka(broker.bootstrap, f"{trace.name}-{count}-", count, self.folder)
                    events = run.play(trace.events)
                    theirs = {text for _, text in published(run.place)}
                    ours = set(scoring.replayed(trace.events, load_settings(None, run.environment, {})))
                    if theirs != ours:
                        raise Broken(f"{trace.name} at {count} partitions: {len(theirs ^ ours)} decisions differ")
                    rows.append({"trace": trace.name, "partitions": count, "events": events, "decisions": len(ours)})
                    self.say(f"{trace.name}: {events:,} events at {count} partitions, {len(ours)} decisions, the same")
        return rows

    def ablations(self) -> list[dict[str, Any]]:
        """A row for each part of the model that can be taken out, each in a process with other constants."""
        rows = []
        for variant in ablation.VARIANTS:
            command = [sys.executable, "-m", "benchmarks.detection.ablation", variant]
            done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
            if done.returncode:
                raise Broken(f"ablation {variant!r}: {done.stderr.strip()}")
            rows.append({"variant": variant, **orjson.loads(done.stdout)})
            self.say(f"{variant}: scored")
        return rows

    def say(self, text: str) -> None:
        """Progress, on standard error."""
        print(f"{time.monotonic() - self.started_s:5.0f} s  {text}", file=sys.stderr, flush=True)


def full_settings(default: Setting) -> list[Setting]:
    """The default first, then what is compared with it."""
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


def _arguments() -> argparse.Namespace:
    default = load_settings(None, {}, {})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    budget = default.model.budget_percent
    parser.add_argument("--budget", type=float, default=budget, metavar="PERCENT", help="model.sensitivity")
    parser.add_argument("--partitions", type=int, default=default.topics.partitions, help="topics.partitions")
    parser.add_argument("--delay", type=int, default=0, metavar="MS", help="from a decision until the edge has it")
    parser.add_argument("--volume", type=int, default=1, metavar="FACTOR", help="multiply each event's messages")
    parser.add_argument("--detector", choices=(PEAK_MEMORY, "river"), default=PEAK_MEMORY, help="model.detector")
    parser.add_argument("--no-causal", action="store_true", help="leave the causality check out")
    parser.add_argument("--through-kafka", action="store_true", help="also hold a worker on Kafka to the replay")
    parser.add_argument("--full", action="store_true", help="everything; keep the result and rewrite the tables")
    return parser.parse_args()


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that was asked for; the first row is the headline."""
    evaluation = Evaluation(folder, not options.no_causal)
    chosen = Setting(options.budget, options.partitions, options.volume, options.detector, (options.delay,))
    rows = evaluation.rows(full_settings(chosen)[0] if options.full else chosen)
    evaluation.causal = False
    for setting in full_settings(chosen)[1:] if options.full else ():
        rows += evaluation.rows(setting)
    return {
        "machine": stamp(),
        "rows": rows,
        "ablation": evaluation.ablations() if options.full else [],
        "through_kafka": evaluation.through_kafka([1, 8]) if options.through_kafka else [],
    }


def main() -> int:
    """Measure, print the tables, keep a full result; the last line is the headline as JSON."""
    options = _arguments()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            result = run(options, Path(scratch))
    except Broken as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    print("\n".join(evaluation_tables.everything(result)))
    if options.full:
        results.keep(result, evaluation_tables.KEPT)
        evaluation_tables.write()
    print(orjson.dumps({name: result["rows"][0][name] for name in HEADLINE}).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
