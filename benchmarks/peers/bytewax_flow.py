"""Bytewax: a dataflow with a stateful flat map, keyed by record key, with a snapshot to its recovery store per epoch.

One worker: two in one process are no faster, because of Python's lock. The snapshots' interval is an epoch.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from confluent_kafka import OFFSET_BEGINNING

from benchmarks.peers.job import State, Tally, arguments, decision, fresh, report_ready, take

BATCH, STORES = 10_000, 1
FETCH = {
    "fetch.queue.backoff.ms": "2",
    "fetch.message.max.bytes": str(4 << 20),
    "queued.max.messages.kbytes": str(128 << 10),
}
SETTLE_S = 1.0  # after the last event, for the sink


def flow_of(chosen: Any, tally: Tally, complete: threading.Event) -> Dataflow:
    """Return the dataflow; ``complete`` is set once the tally is."""

    def read(messages: list[Any]) -> Iterable[tuple[str, tuple[int, int]]]:
        tally.begin()
        for message in messages:
            event = orjson.loads(message.value)
            yield message.key.decode(), (event["ts"], event.get("messages", 1))

    def judge(state: State | None, event: tuple[int, int]) -> tuple[State, Iterable[tuple[int, int]]]:
        ts, messages = event
        if state is None:
            state = fresh(ts)
            tally.keys += 1
        count = take(state, ts, messages, tally)
        if tally.add():
            complete.set()
        return state, [(count, ts)] if count else ()

    def record(item: tuple[str, tuple[int, int]]) -> KafkaSinkMessage[bytes, bytes]:
        key, (count, ts) = item
        return KafkaSinkMessage(key.encode(), decision(key, count, ts))

    flow = Dataflow("contest")
    source = KafkaSource(
        [chosen.bootstrap],
        [chosen.topic],
        tail=True,
        starting_offset=OFFSET_BEGINNING,
        add_config=FETCH,
        batch_size=BATCH,
    )
    events = op.flat_map_batch("read", op.input("connections", flow, source), read)
    decided = op.map("record", op.stateful_flat_map("judge", events, judge), record)
    op.output("decisions", decided, KafkaSink([chosen.bootstrap], chosen.decisions))
    return flow


def main() -> None:
    """Run the command line."""
    chosen = arguments(__doc__)
    tally, complete = Tally(chosen.events), threading.Event()
    store = Path(chosen.folder) / "recovery"
    store.mkdir(exist_ok=True)
    init_db_dir(store, STORES)

    def end() -> None:
        complete.wait()
        time.sleep(SETTLE_S)
        tally.report()
        os._exit(0)  # the source would wait for more

    threading.Thread(target=end, daemon=True).start()
    report_ready()
    cli_main(
        flow_of(chosen, tally, complete),
        epoch_interval=timedelta(milliseconds=chosen.checkpoint_ms),
        recovery_config=RecoveryConfig(store),
    )


if __name__ == "__main__":
    main()
