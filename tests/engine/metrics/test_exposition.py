"""Metrics in Prometheus' text format, compared with its own client library."""

from __future__ import annotations

import re

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.edge.metrics import METRICS as EDGE
from engine.metrics.exposition import LATENCY_S, Histogram, MetricDeclaration, Sample, exposition
from engine.worker.metrics import METRICS as WORKER
from tests.support.metrics import sample_values


@given(st.lists(st.floats(-1.0, 1e5)))
def test_histogram_equals_that_of_the_client_library(values: list[float]) -> None:
    ours, registry = Histogram(), prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Histogram("h", "h", buckets=LATENCY_S, registry=registry)

    for value in values:
        ours.observe(value)
        theirs.observe(max(0.0, value))

    expected = {
        sample.labels["le"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "h_bucket"
    }
    assert dict(ours.buckets()) == expected
    assert ours.sum == pytest.approx(sum(max(0.0, value) for value in values))


def test_quantile_is_the_bound_of_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0, 3.0))
    assert histogram.quantile(0.5) is None

    for value in (0.5, 1.5, 1.5, 9.0):
        histogram.observe(value)

    assert [histogram.quantile(share) for share in (0.25, 0.5, 0.75, 1.0)] == [1.0, 2.0, 2.0, float("inf")]


@pytest.mark.parametrize("metric", [*WORKER, *EDGE], ids=lambda metric: metric.name)
def test_each_metric_has_a_valid_name_and_one_sentence(metric: MetricDeclaration) -> None:
    assert re.fullmatch(r"tidegate(_[a-z0-9]+)+", metric.name)
    assert not metric.name.endswith("_total")
    assert re.fullmatch(r"[A-Z1][^\n]{15,}\.", metric.meaning)
    assert metric.meaning.startswith("Seconds ") == metric.name.endswith("_seconds")


def test_metrics_of_a_process_have_one_declaration_for_each_name() -> None:
    for metrics in (WORKER, EDGE):
        assert len({metric.name for metric in metrics}) == len(metrics)


def test_samples_of_one_metric_are_one_family() -> None:
    metric = MetricDeclaration("m", "gauge", "What it is.", ("a",))

    text = exposition(
        [Sample(metric, 1, ("x",)), Sample(MetricDeclaration("n", "gauge", "Another."), 2), Sample(metric, 3, ("y",))]
    )

    assert text.decode().count("# TYPE m gauge") == 1
    assert sample_values(text)["m", ("y",)] == 3
