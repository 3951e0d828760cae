"""Kafka clients that survive an unavailable cluster, one topic reader, blocks, topic administration."""
