"""Topics on a real cluster: created, compared with their contracts, and never altered."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from click.testing import CliRunner

from engine.broker import EmbeddedBroker
from engine.cli.topics import topics as topics_command
from engine.kafka.topic_admin import CREATED, DIFFERS, MISSING, differences, ensure
from tests.support.kafkatools import run_tool
from topics.contracts import ALL, CONNECTIONS, DECISIONS, STATE, contracts
from topics.errors import OperatorError

pytestmark = pytest.mark.system


async def test_missing_topics_are_created_as_contracted(broker: EmbeddedBroker, prefix: str) -> None:
    wanted = contracts(prefix, 3, -1, 1)
    before = await differences(broker.bootstrap, wanted, {})
    assert [(finding.kind, finding.fatal) for finding in before] == [(MISSING, True)] * len(ALL)
    created = await ensure(broker.bootstrap, wanted, {})
    assert [(finding.topic, finding.kind, finding.fatal) for finding in created] == [
        (topic.name, CREATED, False) for topic in wanted
    ]
    assert await differences(broker.bootstrap, wanted, {}) == []


async def test_second_creation_changes_and_reports_nothing(broker: EmbeddedBroker, prefix: str) -> None:
    wanted = contracts(prefix, 2, 60_000, 1)
    await ensure(broker.bootstrap, wanted, {})
    assert await ensure(broker.bootstrap, wanted, {}) == []


async def test_differences_are_reported_and_not_altered(broker: EmbeddedBroker, prefix: str) -> None:
    await ensure(broker.bootstrap, contracts(prefix, 6, 60_000, 1), {})
    wanted = contracts(prefix, 4, -1, 1)
    for _ in range(2):
        found = await ensure(broker.bootstrap, wanted, {})
        assert [(finding.topic, finding.kind, finding.fatal) for finding in found] == [
            (prefix + CONNECTIONS.name, DIFFERS, True),
            (prefix + CONNECTIONS.name, DIFFERS, False),
            (prefix + STATE.name, DIFFERS, True),
        ]
    assert "has 6 partitions, this configuration expects 4: set topics.partitions = 6" in found[0].text
    assert "retention.ms=60000, its contract requires -1" in found[1].text


def test_wrong_cleanup_policy_is_fatal(broker: EmbeddedBroker, prefix: str) -> None:
    name = prefix + DECISIONS.name
    run_tool("TopicCommand", "--bootstrap-server", broker.bootstrap, "--create", "--topic", name, "--partitions", "4")
    found = asyncio.run(ensure(broker.bootstrap, contracts(prefix, 4, -1, 1), {}))
    (finding,) = [each for each in found if each.fatal]
    assert "has cleanup.policy=delete, its contract requires compact" in finding.text


async def test_setting_that_brokers_do_not_know_is_left_out_and_named(broker: EmbeddedBroker, prefix: str) -> None:
    connections, decisions = contracts(prefix, 2, -1, 1)[:2]
    newer = dataclasses.replace(connections, settings=(*connections.settings, ("of.a.later.kafka", "1")))

    created = await ensure(broker.bootstrap, [newer, decisions], {})

    assert [(finding.topic, finding.kind) for finding in created] == [(newer.name, CREATED), (decisions.name, CREATED)]
    assert "without of.a.later.kafka" in created[0].text
    assert "without" not in created[1].text
    assert await differences(broker.bootstrap, [newer, decisions], {}) == []


async def test_more_replicas_than_brokers_is_an_error_of_one_line(broker: EmbeddedBroker, prefix: str) -> None:
    with pytest.raises(OperatorError, match=r"can't be created .*replication.*check topics\.partitions") as raised:
        await ensure(broker.bootstrap, contracts(prefix, 1, -1, 3), {})
    assert len(str(raised.value).splitlines()) == 1


async def test_unreachable_broker_is_an_error_of_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        OperatorError, match=r"Kafka at 127\.0\.0\.1:1 can't be used .*Connect.*is the broker up"
    ) as raised:
        await differences("127.0.0.1:1", ALL, {})
    assert len(str(raised.value).splitlines()) == 1
    assert not caplog.records


def test_command_creates_topics_and_exits_with_1_at_a_fatal_difference(broker: EmbeddedBroker, prefix: str) -> None:
    run = CliRunner(env={"TIDEGATE_TOPICS_PREFIX": prefix, "COLUMNS": "200"}).invoke
    cluster = ["--bootstrap", broker.bootstrap]
    assert run(topics_command, [*cluster, "--check"]).exit_code == 1
    created = run(topics_command, [*cluster, "--create"])
    assert created.exit_code == 0
    assert f"topic {prefix}connections created with 4 partitions" in created.output
    assert f"{len(ALL)} of {len(ALL)} topics meet their contract on {broker.bootstrap}" in created.output
    assert run(topics_command, [*cluster, "--check"]).exit_code == 0
    other = CliRunner(env={"TIDEGATE_TOPICS_PREFIX": prefix, "TIDEGATE_TOPICS_PARTITIONS": "5"})
    wrong = other.invoke(topics_command, [*cluster, "--check"])
    assert wrong.exit_code == 1
    assert "set topics.partitions = 4 or create a new topic" in wrong.output
