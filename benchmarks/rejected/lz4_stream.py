"""What was before: LZ4 frames by cramjam's stream compressor, beside those made of blocks (`topics.columns.batchwrite`).

    python -m benchmarks.rejected.lz4_stream --keep

Both compress a batch of state rows over and over in one thread while another counts: ``gb_per_s`` is the compressor's rate by
its own thread's processor time, ``pace`` what the counting thread gets of its pace beside a sleeping one. Medians of all turns
are a line of results/gains.ndjson with ``--keep``, and the last line of output in any case.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import cramjam
import numpy as np
import orjson

from benchmarks import machine
from benchmarks.results import FOLDER, keep
from topics.columns.batchwrite import CODECS

KEPT = FOLDER / "gains.ndjson"
TURN_S = 0.5


def by_stream(octets: bytes) -> bytes:
    """A frame of independent blocks."""
    compressor = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
    compressor.compress(octets)
    return bytes(compressor.finish())


def batch() -> bytes:
    """4096 rows of which about half compresses away."""
    rows = np.zeros((4096, 144), np.uint8)
    rows[:, :60] = np.random.default_rng(1).integers(0, 256, (4096, 60))
    return rows.tobytes()


def turn(work: Callable[[], Any]) -> tuple[float, int]:
    """Processor seconds that a call takes, and how far this thread counts while another one calls over and over."""
    calls, cpu_s, counted = 0, 0.0, 0
    ended = threading.Event()

    def call() -> None:
        nonlocal calls, cpu_s
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        while time.perf_counter() < began_s + TURN_S:
            work()
            calls += 1
        cpu_s = time.thread_time() - began_cpu_s
        ended.set()

    threading.Thread(target=call).start()
    while not ended.is_set():
        counted += 1
    return cpu_s / calls, counted


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="LZ4 by a stream compressor, and block by block.")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="append the result to results/gains.ndjson")
    chosen = parser.parse_args()
    stamp, octets = machine.stamp(), batch()
    ways = {"before": by_stream, "after": CODECS["lz4"][1]}
    figures: dict[str, dict[str, list[float]]] = {side: {"gb_per_s": [], "pace": []} for side in ways}
    for _ in range(chosen.turns):
        _, free = turn(lambda: time.sleep(TURN_S))
        for side, compress in ways.items():
            assert bytes(cramjam.lz4.decompress(compress(octets))) == octets
            call_s, counted = turn(lambda compress=compress: compress(octets))  # type: ignore[misc]
            figures[side]["gb_per_s"].append(len(octets) / call_s / 1e9)
            figures[side]["pace"].append(counted / free)
    said = {
        f"{side}_{name}": round(statistics.median(values), 3)
        for side, found in figures.items()
        for name, values in found.items()
    }
    if chosen.keep:
        keep({"machine": stamp, "what": "LZ4 frames block by block", "figures": said} | figures, KEPT)
    print(orjson.dumps(said).decode())


if __name__ == "__main__":
    main()
