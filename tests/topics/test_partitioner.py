from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner import DefaultPartitioner as KafkaPythonPartitioner

from topics.keys import key_text
from topics.partitioner import murmur2, partition_of

# Apache Kafka's own test vectors (UtilsTest.testMurmur2), as unsigned integers.
VECTORS = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


@pytest.mark.parametrize(("key", "signed"), VECTORS)
def test_murmur2_equals_kafkas_test_vectors(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


@given(st.binary(max_size=40))
def test_murmur2_equals_aiokafkas(key: bytes) -> None:
    assert murmur2(key) == aiokafka_murmur2(key) % 2**32


class OneTopic:
    """As much of kafka-python's cluster as its partitioner reads."""

    def __init__(self, partitions: int) -> None:
        self.partitions = set(range(partitions))

    def topics(self) -> set[str]:
        return {"connections"}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return self.partitions

    available_partitions_for_topic = partitions_for_topic


@given(st.binary(min_size=1, max_size=40), st.integers(1, 200))
def test_partition_equals_that_of_both_python_clients(key: bytes, partitions: int) -> None:
    every = list(range(partitions))
    other = KafkaPythonPartitioner().partition("connections", key, key, b"", b"", OneTopic(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, every, every) == other


@given(st.integers(0, 2**64 - 1))
def test_key_text_of_a_key_has_a_known_partition(key: int) -> None:
    text = key_text(key).encode()
    assert 0 <= partition_of(text, 8) < 8
    assert partition_of(text, 1) == 0
