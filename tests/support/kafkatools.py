"""Kafka's own command line tools: a client that shares no code with ours."""

from __future__ import annotations

import subprocess

from engine.broker import java_environment, kafka_tool
from tests.support.pace import scaled

TIMEOUT_S = scaled(30)


def run_tool(name: str, *arguments: str, given: str = "") -> str:
    """Run `org.apache.kafka.tools.<name>` with `given` on its standard input; return its standard output."""
    done = subprocess.run(
        kafka_tool(f"org.apache.kafka.tools.{name}", *arguments),
        input=given,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=java_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
