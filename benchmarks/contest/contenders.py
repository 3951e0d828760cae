"""The contenders: their commands, and a line about each for the reader."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.contest.process import Contender
from benchmarks.peers import maven
from benchmarks.peers.environments import python_of

PEERS = Path(__file__).resolve().parents[1] / "peers"


class Entry(NamedTuple):
    """A contender that takes part if its software is available."""

    name: str
    command: Callable[[], tuple[str, ...]]
    about: str
    share: int = 1  # it reads one event of so many
    limit_s: float = 240.0  # for all of its events

    def contender(self) -> Contender:
        """Return it ready to run; `Broken` if its software is not available."""
        return Contender(self.name, self.command())


def _python(module: str, environment: str = "", *more: str) -> Callable[[], tuple[str, ...]]:
    """Return the command of a contender in Python; without an environment of its own it uses this project's packages."""
    return lambda: (python_of(environment) if environment else sys.executable, str(PEERS / f"{module}.py"), *more)


def _java(name: str, main_class: str, store: str) -> Callable[[], tuple[str, ...]]:
    flags = maven.FLINK_FLAGS if name == "flink" else ()
    return lambda: (*maven.command(name, main_class, *flags), "--store", store)


STREAMS, FLINK, CONFLUENT = "Kafka Streams", "Flink", "confluent-kafka loop"
QUIX, FAUST, FAUST_DICT = "Quix Streams", "stock Faust + river", "stock Faust + river, no table"
ENTRIES = (
    Entry(FLINK, _java("flink", "FlinkJob", "memory"), "2.2.1, DataStream, hashmap state, 2 slots"),
    Entry(f"{FLINK}, RocksDB", _java("flink", "FlinkJob", "rocksdb"), "the same, incremental checkpoints"),
    Entry(STREAMS, _java("streams", "StreamsJob", "memory"), "4.1.2, in-memory store with changelog, 2 threads"),
    Entry(f"{STREAMS}, RocksDB", _java("streams", "StreamsJob", "rocksdb"), "the same in RocksDB, with a record cache"),
    Entry(CONFLUENT, _python("confluent_loop"), "2.16.1, dict, orjson, a transaction a checkpoint; 1 process"),
    Entry("Bytewax", _python("bytewax_flow", "bytewax"), "0.21.1, stateful flat map, recovery store; 1 worker", 10),
    Entry(QUIX, _python("quix_dataframe", "quix"), "3.28.1, stateful apply, RocksDB and changelog; 1 process", 10),
    Entry(FAUST, _python("faust_table"), "0.15.3, river 0.26.1 in a table with changelog; 1 process", 100),
    Entry(
        FAUST_DICT, _python("faust_table", "", "--store", "dict"), "the same in a dict: a crash loses the state", 100
    ),
)
BY_NAME = {entry.name: entry for entry in ENTRIES}
