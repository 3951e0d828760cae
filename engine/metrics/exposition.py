"""Figures as Prometheus reads them: declared once with unit and meaning, filled when somebody asks, written by its own library.

Nothing is counted here on the way of an event: the counts are those that an engine or an edge keeps anyway, handed over as
samples at the time of a scrape. Units stand at the end of a name (seconds, bytes, ratio); a counter's name gets ``_total``.
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

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


class Declared(NamedTuple):
    """A metric. ``name``: without a counter's ``_total``; ``meaning``: one sentence, its unit in it where the name has none."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        """The name that queries say."""
        return f"{self.name}_total" if self.kind == COUNTER else self.name


class Histogram:
    """Values by upper bound; ``bounds`` rise. A few instructions a value: for decisions, not for events."""

    def __init__(self, bounds: Sequence[float] = LATENCY_S) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; a negative one (clocks differ) as 0."""
        value = max(0.0, value)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def quantile(self, share: float) -> float | None:
        """The upper bound of the bucket in which the share lies; None without values, infinite beyond the last bound."""
        wanted = share * sum(self.counts)
        bounds = zip([*self.bounds, inf], accumulate(self.counts), strict=True)
        return next((bound for bound, count in bounds if count >= wanted), None) if any(self.counts) else None

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound as text, and how many values were at most that."""
        return [*zip([*(str(bound) for bound in self.bounds), "+Inf"], accumulate(self.counts), strict=True)]


class Sample(NamedTuple):
    """A value of a metric; ``labels`` in the order of its declaration."""

    metric: Declared
    value: float | Histogram
    labels: tuple[str, ...] = ()


def _family(metric: Declared) -> Metric:
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


class _Families:
    """What the library takes for a collector."""

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
    """The text format: the samples, and what Prometheus usually knows of a process (CPU, memory, open files)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Families(_families(samples)))
    return generate_latest(registry)


def labelled(texts: Mapping[str, str], label: str) -> bytes:
    """One text of several, each sample with the text's name as a label more."""
    families: dict[str, Metric] = {}
    for name, text in texts.items():
        for family in text_string_to_metric_families(text):
            known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                known.add_sample(sample.name, {label: name, **sample.labels}, sample.value)
    registry = CollectorRegistry()
    registry.register(_Families(families.values()))
    return generate_latest(registry)
