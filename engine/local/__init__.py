"""The embedded broker: a real Apache Kafka without anything to install. `broker.py` is the way in."""

from __future__ import annotations

from engine.local.broker import EmbeddedBroker, kafka_tool
from engine.local.java import java_environment, java_executable
from engine.local.storage import bootstrap_of

__all__ = ["EmbeddedBroker", "bootstrap_of", "java_environment", "java_executable", "kafka_tool"]
