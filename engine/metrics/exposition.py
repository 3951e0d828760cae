"""Metrics in Prometheus' text format: declared once with unit and meaning, rendered by Prometheus' own library.

Nothing is counted here while events are applied: engine and edge hand over the counts that they keep anyway as samples when
they are scraped. A name ends with its unit (seconds, bytes, ratio); the name of a counter gets the suffix ``_total``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import inf
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


class MetricDeclaration(NamedTuple):
    """A metric, without its values."""

    name: str  # without the suffix of counters
    kind: str  # COUNTER, GAUGE or HISTOGRAM
    meaning: str  # one sentence, with the unit if the name has none
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        """The name that queries use."""
        return f"{self.name}_total" if self.kind == COUNTER else self.name


class Histogram:
    """Counts of values by upper bound; ``bounds`` must rise. Too slow for events, fast enough for decisions."""

    def __init__(self, bounds: Sequence[float] = LATENCY_S) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; a negative one, which differing clocks cause, counts as 0."""
        value = max(0.0, value)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def quantile(self, share: float) -> float | None:
        """Return the upper bound of the bucket with this quantile: None without values, infinite above the last bound."""
        rank = share * sum(self.counts)
        bounds = zip([*self.bounds, inf], accumulate(self.counts), strict=True)
        return next((bound for bound, count in bounds if count >= rank), None) if any(self.counts) else None

    def buckets(self) -> list[tuple[str, float]]:
        """Return each upper bound as text with the count of values that don't exceed it."""
        return [*zip([*(str(bound) for bound in self.bounds), "+Inf"], accumulate(self.counts), strict=True)]


class Sample(NamedTuple):
    """A value of a metric."""

    metric: MetricDeclaration
    value: float | Histogram
    labels: tuple[str, ...] = ()  # values, in the order of the declaration


def _family(metric: MetricDeclaration) -> Metric:
    if metric.kind == HISTOGRAM:
        return HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    family = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
    return family(metric.name, metric.meaning, labels=metric.labels)


def _add(family: Metric, sample: Sample) -> None:
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(sample.value, Histogram)
        family.add_metric(sample.labels, sample.value.buckets(), sample.value.sum)
    else:
        assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
        assert not isinstance(sample.value, Histogram)
        family.add_metric(sample.labels, sample.value)


class _Families(Collector):
    """A collector of the library that returns given families."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _families(samples: Iterable[Sample]) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    for sample in samples:
        name = sample.metric.name
        if name not in families:
            families[name] = _family(sample.metric)
        _add(families[name], sample)
    yield from families.values()


def exposition(samples: Iterable[Sample]) -> bytes:
    """Return the samples and the usual metrics of a process (CPU, memory, open files) as text."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Families(_families(samples)))
    return generate_latest(registry)


def add_label(texts: Mapping[str, str], label: str) -> bytes:
    """Return the union of several texts; each sample gets its text's name as the value of ``label``."""
    families: dict[str, Metric] = {}
    for name, text in texts.items():
        for family in text_string_to_metric_families(text):
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                merged.add_sample(sample.name, {label: name, **sample.labels}, sample.value)
    registry = CollectorRegistry()
    registry.register(_Families(families.values()))
    return generate_latest(registry)
