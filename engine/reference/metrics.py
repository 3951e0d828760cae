"""The metrics' documentation, written from their declarations; `make docs` puts it into `deploy/`, a test holds it there."""

from __future__ import annotations

from collections.abc import Iterable

from engine.edge.metrics import METRICS as EDGE
from engine.metrics.exposition import Declared
from engine.worker.metrics import METRICS as WORKER

FILE = "METRICS.md"
HEAD = """\
# Metrics

Written by `make docs` from the declarations in `engine/worker/metrics.py` and `engine/edge/metrics.py`.

Workers serve them at `/metrics` of port 10090 (`worker.http`), edges at that of port 10080 (`edge.http`), with what
Prometheus usually knows of a process (`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds`).
`prometheus/` beside this page has what to scrape, alerts and their test, `grafana/` a dashboard.

Counters by partition begin at 0 when a worker takes the partition over, so sums of rates over workers stay right while
partitions move. Ratios are from 0 to 1. An event's time is what its edge stamped: latencies hold its clock against ours.
"""


def metrics_text() -> str:
    """The page."""
    return "\n".join([HEAD, *_table("Workers", WORKER), *_table("Edges", EDGE)])


def _table(title: str, metrics: Iterable[Declared]) -> list[str]:
    lines = [f"## {title}", "", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.exposed}` | {metric.kind} | {labels} | {metric.meaning} |")
    return [*lines, ""]
