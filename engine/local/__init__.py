"""The embedded broker: a real Apache Kafka without anything to install. `broker.py` is the way in."""
