"""Read metrics in Prometheus' text format."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


def sample_values(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the values by name and label values, without the bounds of buckets."""
    return {
        (sample.name, tuple(value for name, value in sample.labels.items() if name != "le")): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def family_names(text: bytes) -> set[str]:
    """Return the names of the metrics."""
    return {line.split(" ")[2] for line in text.decode().splitlines() if line.startswith("# TYPE ")}
