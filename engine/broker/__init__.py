"""The embedded broker: a real Apache Kafka that needs no installation. `broker.py` is its interface."""

from __future__ import annotations

from engine.broker.broker import EmbeddedBroker, kafka_tool
from engine.broker.java import java_environment, java_executable
from engine.broker.storage import bootstrap_of

__all__ = ["EmbeddedBroker", "bootstrap_of", "java_environment", "java_executable", "kafka_tool"]
