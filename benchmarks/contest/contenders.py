"""Who takes part, and with which command."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.contest.running import Contender

PEERS = Path(__file__).resolve().parents[1] / "peers"


def _ours(name: str, module: str, *, short: bool = False) -> Contender:
    """A contender in Python whose packages are among those that this project pins anyway."""
    return Contender(name, (sys.executable, str(PEERS / f"{module}.py")), short)


CONFLUENT = _ours("confluent-kafka loop", "confluent_loop")


def by_name(name):
    return {"confluent": CONFLUENT}[name]
