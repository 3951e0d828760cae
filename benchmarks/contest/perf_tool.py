"""Kafka's own consumer performance tool on the same topic, with its authors' Java flags and its own defaults.

It parses nothing, keeps nothing and checks no CRC. Its rate is over its fetch time, without joining the group: this is fairer
to it. Its CPU time includes the start of its Java.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time

from benchmarks.contest.process import Run
from benchmarks.harness.errors import Broken
from benchmarks.harness.topic_space import TopicSpace
from engine.broker import java_environment, kafka_tool

MAIN_CLASS = "org.apache.kafka.tools.ConsumerPerformance"
# Its columns: start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec,
# rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec
COLUMNS = 10


def run(space: TopicSpace, events: int) -> Run:
    """Read ``events`` from the beginning of the connections with a new group."""
    arguments = ["--bootstrap-server", space.bootstrap, "--topic", space.connections, "--messages", str(events)]
    arguments += ["--group", f"tool-{time.time_ns()}"]
    command = kafka_tool(MAIN_CLASS, *arguments, "--hide-header", "--timeout", "60000")
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, env=java_environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        lines, complaint = out.read().decode().splitlines(), err.read().decode().strip()
    rows = [line.split(", ") for line in lines if line.count(", ") == COLUMNS - 1]
    if process.returncode or not rows:
        reason = (complaint or "no result").splitlines()[-1]
        raise Broken(f"{MAIN_CLASS} ended with status {process.returncode}: {reason}")
    row = rows[-1]
    count, cost = int(row[4]), (usage.ru_utime + usage.ru_stime) / int(row[4]) * 1e6
    wrong = [] if count == events else [f"events: {count:,} instead of {events:,}"]
    return Run(count, float(row[9]), None, cost, usage.ru_maxrss / 1024, 0.0, wrong)
