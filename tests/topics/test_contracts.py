from __future__ import annotations

import dataclasses

import pytest

from engine.kafka.topic_admin import DIFFERS, ExistingTopic, compare
from topics.contracts import ALL, CONNECTIONS, DEAD_LETTERS, DECISIONS, EXEMPTIONS, STATE, Topic, contracts


def as_contracted(topic: Topic, **changes: object) -> ExistingTopic:
    return dataclasses.replace(
        ExistingTopic(topic.name, topic.partitions, topic.replication, topic.configuration()),
        **changes,  # type: ignore[arg-type]
    )


def test_default_contracts_are_the_declared_ones() -> None:
    assert contracts("", CONNECTIONS.partitions, CONNECTIONS.retention_ms or 0, 1) == ALL


def test_prefix_precedes_every_name() -> None:
    assert [topic.name for topic in contracts("eu.", 4, -1, 1)] == [f"eu.{topic.name}" for topic in ALL]


def test_state_always_has_the_partitions_of_connections() -> None:
    by_name = {topic.name: topic for topic in contracts("", 12, -1, 1)}
    assert by_name[CONNECTIONS.name].partitions == by_name[STATE.name].partitions == 12
    assert [by_name[topic.name].partitions for topic in (DECISIONS, EXEMPTIONS, DEAD_LETTERS)] == [4, 1, 4]


def test_unlimited_retention_is_minus_one() -> None:
    connections, *_ = contracts("", 4, -1, 1)
    assert connections.configuration()["retention.ms"] == "-1"


def test_compacted_topics_have_no_retention() -> None:
    for topic in (DECISIONS, EXEMPTIONS, STATE):
        assert topic.configuration()["cleanup.policy"] == "compact"
        assert "retention.ms" not in topic.configuration()


def test_three_replicas_need_two_in_sync() -> None:
    for topic in contracts("", 4, -1, 3):
        assert topic.configuration()["min.insync.replicas"] == "2"
    assert all("min.insync.replicas" not in topic.configuration() for topic in contracts("", 4, -1, 2))


def test_every_name_is_valid_in_kafka() -> None:
    assert len({topic.name for topic in ALL}) == len(ALL)
    assert all(set(topic.name) <= set("abcdefghijklmnopqrstuvwxyz-") for topic in ALL)


@pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
def test_topic_as_contracted_has_no_findings(topic: Topic) -> None:
    assert compare(topic, as_contracted(topic)) == []


@pytest.mark.parametrize("topic", [CONNECTIONS, STATE], ids=lambda topic: topic.name)
def test_wrong_partition_count_of_a_bound_topic_is_fatal(topic: Topic) -> None:
    (finding,) = compare(topic, as_contracted(topic, partitions=6))
    assert finding.fatal
    assert finding.text == (
        f"topic {topic.name} has 6 partitions, this configuration expects 4: "
        "set topics.partitions = 6 or create a new topic; state is bound to the count"
    )


@pytest.mark.parametrize("topic", [DECISIONS, EXEMPTIONS, DEAD_LETTERS], ids=lambda topic: topic.name)
def test_wrong_partition_count_of_another_topic_is_reported(topic: Topic) -> None:
    (finding,) = compare(topic, as_contracted(topic, partitions=6))
    assert (finding.kind, finding.fatal) == (DIFFERS, False)


@pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
def test_wrong_cleanup_policy_is_fatal_and_comes_first(topic: Topic) -> None:
    wrong = {**topic.configuration(), "cleanup.policy": "compact,delete", "retention.ms": "1"}
    first, *_ = compare(topic, as_contracted(topic, configuration=wrong, replication=2))
    assert first.fatal
    assert f"topic {topic.name} has cleanup.policy=compact,delete, its contract requires {topic.cleanup}" in first.text
    assert "kafka-configs --alter" in first.text


def test_wrong_retention_timestamp_type_or_replication_is_reported_with_a_remedy() -> None:
    wrong = {**CONNECTIONS.configuration(), "retention.ms": "60000", "message.timestamp.type": "LogAppendTime"}
    findings = compare(CONNECTIONS, as_contracted(CONNECTIONS, configuration=wrong, replication=3))
    assert not any(finding.fatal for finding in findings)
    texts = "\n".join(finding.text for finding in findings)
    assert "retention.ms=60000, its contract requires 604800000" in texts
    assert "message.timestamp.type=LogAppendTime, its contract requires CreateTime" in texts
    assert "has 3 replicas, this configuration expects 1: set topics.replication = 3" in texts
    assert all(len(finding.text.splitlines()) == 1 for finding in findings)
