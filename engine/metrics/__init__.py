"""Metrics: their declarations and the Prometheus text format."""
