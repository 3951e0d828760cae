"""Kafka's own consumer performance tool on the same topic, with its authors' Java flags and its own defaults.

It parses nothing, keeps nothing and checks no CRC. `events_per_s` is its rate over its fetch time, which leaves out joining
the group: the fairer one for it, and the one that ratios are of. `whole_events_per_s` counts from its start.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass

from benchmarks.harness.errors import Broken
from engine.broker import java_environment, kafka_tool

MAIN_CLASS = "org.apache.kafka.tools.ConsumerPerformance"
# Its columns: start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec,
# rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec
COLUMNS = 10


@dataclass(frozen=True)
class ToolRun:
    """One run of the tool. ``cpu_s_per_million`` includes the start of its Java, which is not in its rates."""

    events: int
    events_per_s: float
    whole_events_per_s: float
    fetch_s: float
    cpu_s_per_million: float
    rss_most_mb: float


def run(bootstrap: str, topic: str, events: int, group: str) -> ToolRun:
    """Read ``events`` from the beginning of the topic with a fresh ``group``."""
    arguments = ["--bootstrap-server", bootstrap, "--topic", topic, "--messages", str(events), "--group", group]
    command = kafka_tool(MAIN_CLASS, *arguments, "--hide-header", "--timeout", "60000")
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        process = subprocess.Popen(
            command, env=java_environment(), stdin=subprocess.DEVNULL, stdout=said, stderr=complained
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        complained.seek(0)
        lines, complaint = said.read().decode().splitlines(), complained.read().decode().strip()
    rows = [line.split(", ") for line in lines if line.count(", ") == COLUMNS - 1]
    if process.returncode or not rows:
        said_last = (complaint or "no result").splitlines()[-1]
        raise Broken(f"{MAIN_CLASS} ended with status {process.returncode}: {said_last}")
    row = rows[-1]
    return ToolRun(
        events=int(row[4]),
        events_per_s=float(row[9]),
        whole_events_per_s=float(row[5]),
        fetch_s=float(row[7]) / 1000,
        cpu_s_per_million=(usage.ru_utime + usage.ru_stime) / int(row[4]) * 1e6,
        rss_most_mb=usage.ru_maxrss / 1024,
    )
