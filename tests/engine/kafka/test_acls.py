"""The rights of each role, as commands for a cluster's administrator."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import pytest
from click.testing import CliRunner, Result

from engine.cli.topics import parse_principals, topics
from engine.config.load import load_settings
from engine.kafka.acls import EDGE, GROUP, PRODUCER, ROLES, TOPIC, TRANSACTIONAL_ID, WORKER, Rights, commands, rights_of
from topics.errors import OperatorError

SITE = {"topics.prefix": "mx-", "worker.app_id": "site"}


def rights(role: str, **options: str) -> list[Rights]:
    paths = {name.replace("_", ".", 1): value for name, value in options.items()}
    return rights_of(role, load_settings(None, {}, {**SITE, **paths}))


def invoke(arguments: Sequence[str]) -> Result:
    return CliRunner().invoke(topics, arguments)


def test_names_have_the_configured_prefix_and_application() -> None:
    named = {name for role in ROLES for right in rights(role) if right.resource == TOPIC for name in right.names}
    others = {(right.resource, *right.names) for role in ROLES for right in rights(role) if right.resource != TOPIC}

    assert all(name.startswith("mx-") for name in named)
    assert others == {
        (GROUP, "site"),
        (TRANSACTIONAL_ID, "site-state-"),
        (GROUP, "mx-tidegate-edge-"),
        (TRANSACTIONAL_ID, "mx-tidegate-edge-"),
    }


@pytest.mark.parametrize(("token", "writes"), [("", False), ("0123456789abcdef", True)])
def test_worker_writes_overrides_only_if_its_page_does(token: str, writes: bool) -> None:
    written = [
        name for right in rights(WORKER, worker_http_token=token) if "Write" in right.operations for name in right.names
    ]

    assert ("mx-exemptions" in written) == writes


def test_producer_has_rights_on_connections_only() -> None:
    assert [right.names for right in rights(PRODUCER)] == [["mx-connections"]]


def test_edge_writes_no_decisions() -> None:
    written = {
        name
        for right in rights(EDGE)
        if right.resource == TOPIC and "Write" in right.operations
        for name in right.names
    }

    assert written == {"mx-connections", "mx-edges"}


def test_commands_on_a_secured_cluster_name_an_administrators_file() -> None:
    secured = {"kafka.bootstrap": "a.example:9093, b.example:9093", "kafka.security_protocol": "SSL"}
    settings = load_settings(None, {}, secured)

    lines = [line for line in commands(settings, dict.fromkeys(ROLES, "User:CN=mx 1")) if line.startswith("kafka-acls")]

    for line in lines:
        assert shlex.split(line)[:8] == [
            "kafka-acls", "--bootstrap-server", "a.example:9093,b.example:9093", "--command-config", "admin.properties",
            "--add", "--allow-principal", "User:CN=mx 1",
        ]  # fmt: skip


def test_principals_of_roles_replace_the_default_ones() -> None:
    principals = parse_principals(["edge=User:CN=mx1,O=A"])

    assert principals["edge"] == "User:CN=mx1,O=A"
    assert principals["worker"] == "User:tidegate-worker"


@pytest.mark.parametrize("text", ["edge", "edge=mx1", "mail=User:mx1", "=User:mx1"])
def test_principal_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(OperatorError, match="ROLE=TYPE:NAME"):
        parse_principals([text])


def test_command_prints_a_script_and_needs_no_cluster() -> None:
    printed = invoke(["--acls"])

    assert printed.exit_code == 0
    assert all(line.startswith(("#", "kafka-acls ")) for line in printed.output.splitlines())


@pytest.mark.parametrize("arguments", [["--acls", "--create"], ["--acls", "--check"], ["--principal", "edge=User:mx1"]])
def test_command_refuses_rights_with_other_work(arguments: list[str]) -> None:
    assert isinstance(invoke(arguments).exception, OperatorError)
