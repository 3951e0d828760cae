"""Kafka's default partitioner in plain Python: record key to partition.

The algorithm is Apache Kafka's (`Utils.murmur2`, `BuiltInPartitioner.partitionForKey`), the default of the Java client,
aiokafka and kafka-python. librdkafka has another default, so its producers need ``partitioner=murmur2_random``.
"""

from __future__ import annotations

_SEED = 0x9747B28C
_M = 0x5BD1E995
_WORD = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Return Kafka's 32-bit murmur2 of a record key, as an unsigned integer."""
    h = _SEED ^ len(key)
    whole = len(key) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * _M & _WORD
        k = (k ^ k >> 24) * _M & _WORD
        h = (h * _M & _WORD) ^ k
    if whole < len(key):
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _WORD
    h = (h ^ h >> 13) * _M & _WORD
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition, 0 to ``partitions`` - 1, that Kafka's default partitioner gives a record key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
