"""Dashboard and alerts query metrics that exist, and the alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine.edge.metrics import METRICS as EDGE
from engine.worker.metrics import METRICS as WORKER
from tests.support.pace import scaled
from tests.tidy.tree import none_of

NAME = re.compile(r"\b(?:tidegate|process|up)(?:_[a-z0-9_]+)?\b")
PROCESS_METRICS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")
LABELS = {"instance", "partition", "reason", "le"}


def exposed_names() -> set[str]:
    names = {metric.exposed for metric in (*WORKER, *EDGE)}
    histograms = {metric.name for metric in (*WORKER, *EDGE) if metric.kind == "histogram"}
    return names | {name + part for name in histograms for part in HISTOGRAM_SUFFIXES} | PROCESS_METRICS


def dashboard(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((root / "deploy/grafana/tidegate.json").read_text(encoding="utf-8"))
    return loaded


def queries(root: Path) -> dict[str, str]:
    """Return the dashboard's expressions by panel title."""
    panels = [panel for panel in dashboard(root)["panels"] if panel["type"] != "row"]
    return {f"{panel['title']} {target['refId']}": target["expr"] for panel in panels for target in panel["targets"]}


def expressions(root: Path) -> dict[str, str]:
    """Return the expressions of alerts by name."""
    text = (root / "deploy/prometheus/tidegate.rules.yml").read_text(encoding="utf-8")
    return dict(re.findall(r"alert: (\w+)\n\s+expr: >-\n\s+(.+)\n", text))


def metric_names(expression: str) -> set[str]:
    return set(NAME.findall(re.sub(r'"[^"]*"', '""', expression)))


def test_dashboard_queries_only_existing_metrics(root: Path) -> None:
    found = queries(root)
    assert len(found) > 50
    none_of(f"{title}: {name}" for title, text in found.items() for name in metric_names(text) - exposed_names())
    none_of(title for title, text in found.items() if not metric_names(text))


def test_alerts_query_only_existing_metrics(root: Path) -> None:
    found = expressions(root)
    text = (root / "deploy/prometheus/tidegate.rules.yml").read_text(encoding="utf-8")
    assert len(found) == text.count("- alert:") > 15
    none_of(f"{alert}: {name}" for alert, text in found.items() for name in metric_names(text) - exposed_names())


def test_queries_group_by_existing_labels(root: Path) -> None:
    texts = [*queries(root).values(), *expressions(root).values()]
    labels = {
        label.strip() for text in texts for by in re.findall(r"\bby \(([^)]*)\)", text) for label in by.split(",")
    }
    assert {"reason", "partition", "le"} <= labels <= LABELS


def test_dashboard_shows_all_metrics_but_these(root: Path) -> None:
    shown = set().union(*(metric_names(text) for text in queries(root).values()))
    left_out = {metric.name for metric in (*WORKER, *EDGE)} - {re.sub(r"_(total|bucket)$", "", name) for name in shown}
    assert left_out == {
        "tidegate_worker_info",
        "tidegate_notifications",
        "tidegate_breaker_trips",
        "tidegate_partitions",
        "tidegate_blocks",
        "tidegate_records",
        "tidegate_checkpoints",
        "tidegate_restore_rows",
        "tidegate_restore_seconds",
        "tidegate_edge_edges",
        "tidegate_edge_decisions_ignored",
        "tidegate_edge_spool_bytes",
        "tidegate_edge_spool_batches_dropped",
    }


def test_panels_do_not_overlap(root: Path) -> None:
    titles: dict[tuple[int, int], str] = {}
    for panel in dashboard(root)["panels"]:
        grid = panel["gridPos"]
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                assert x < 24
                assert (x, y) not in titles, f"{panel['title']} overlaps {titles[x, y]}"
                titles[x, y] = panel["title"]


def test_runbook_has_every_alert(root: Path) -> None:
    runbook = (root / "deploy/RUNBOOK.md").read_text(encoding="utf-8")
    none_of(alert for alert in expressions(root) if alert not in runbook)


def promtool() -> str:
    """Return the path of promtool; skip the test without it."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool (Debian, Ubuntu: apt install prometheus)")
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "tidegate.rules.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "tidegate.rules.test.yml"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_accepts_rules_configuration_and_test(root: Path, arguments: tuple[str, ...]) -> None:
    completed = subprocess.run(
        [promtool(), *arguments],
        cwd=root / "deploy/prometheus",
        capture_output=True,
        text=True,
        check=False,
        timeout=scaled(60),
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_rules_test_expects_every_alert(root: Path) -> None:
    text = (root / "deploy/prometheus/tidegate.rules.test.yml").read_text(encoding="utf-8")
    assert set(re.findall(r'alertname="(\w+)"', text)) == set(expressions(root))
