"""The rights that each kind of client needs on a cluster with an authorizer, as Kafka's own `kafka-acls` commands.

Roles: worker, edge, operator (all commands but the producers') and producer (`tidegate produce` and `import --bootstrap`). The
rights are the least with which everything works; `tests/system/test_rights.py` runs all roles with exactly these.
Rejected: one prefixed rule for all topics, which without `topics.prefix` would allow every topic of the cluster.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from engine.config.load import Settings
from topics.contracts import (
    ALL,
    CONNECTIONS,
    DEAD_LETTERS,
    DECISIONS,
    EDGES,
    EXEMPTIONS,
    NOTICES,
    STATE,
    Topic,
    edge_client,
    state_writer,
)

WORKER, EDGE, OPERATOR, PRODUCER = "worker", "edge", "operator", "producer"
ROLES = (WORKER, EDGE, OPERATOR, PRODUCER)
TOPIC, GROUP, TRANSACTIONAL_ID = "topic", "group", "transactional-id"
READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS, CREATE = "Read", "Write", "Describe", "DescribeConfigs", "Create"
ADMIN_FILE = "admin.properties"
NO_BROKERS = "BROKER:9092"


class Rights(NamedTuple):
    """Operations on resources of one kind."""

    operations: Sequence[str]
    resource: str  # TOPIC, GROUP or TRANSACTIONAL_ID
    names: Sequence[str]
    are_prefixes: bool = False  # names are the beginnings of the resources' names


def default_principals() -> dict[str, str]:
    """Return a principal for each role."""
    return {role: f"User:tidegate-{role}" for role in ROLES}


def rights_of(role: str, settings: Settings) -> list[Rights]:
    """Return the rights that a role needs under this configuration."""
    prefix, app_id = settings.topics.prefix, settings.worker.app_id

    def named(*topics: Topic) -> list[str]:
        return [prefix + topic.name for topic in topics]

    if role == WORKER:
        overrides = [EXEMPTIONS] if settings.worker.http_token else []  # the page writes them
        return [
            Rights((READ, DESCRIBE, DESCRIBE_CONFIGS), TOPIC, named(*ALL)),
            Rights((WRITE, DESCRIBE), TOPIC, named(DECISIONS, DEAD_LETTERS, STATE, NOTICES, *overrides)),
            Rights((READ, DESCRIBE), GROUP, [app_id]),
            Rights((WRITE, DESCRIBE), TRANSACTIONAL_ID, [state_writer(app_id)], are_prefixes=True),
        ]
    if role == EDGE:
        client = [edge_client(prefix)]
        return [
            Rights((READ, DESCRIBE), TOPIC, named(DECISIONS, EXEMPTIONS, EDGES)),
            Rights((WRITE, DESCRIBE), TOPIC, named(CONNECTIONS, EDGES)),
            Rights((READ, DESCRIBE), GROUP, client, are_prefixes=True),
            Rights((WRITE, DESCRIBE), TRANSACTIONAL_ID, client, are_prefixes=True),
        ]
    if role == OPERATOR:
        return [
            Rights((READ, DESCRIBE, DESCRIBE_CONFIGS, CREATE), TOPIC, named(*ALL)),
            Rights((WRITE, DESCRIBE), TOPIC, named(EXEMPTIONS)),
        ]
    return [Rights((WRITE, DESCRIBE, DESCRIBE_CONFIGS), TOPIC, named(CONNECTIONS))]


def commands(settings: Settings, principals: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a shell script that gives each role's principal its rights."""
    kafka = settings.kafka
    cluster = ["--bootstrap-server", kafka.bootstrap.replace(" ", "") or NO_BROKERS]
    yield "# Run this with the right to alter the cluster's ACLs; Apache's archive calls the command kafka-acls.sh."
    if kafka.security_protocol != "PLAINTEXT":
        cluster += ["--command-config", ADMIN_FILE]
        yield f"# {ADMIN_FILE} holds the client properties of an administrator."
    for role in ROLES:
        yield f"# {role}"
        for rights in rights_of(role, settings):
            command = ["kafka-acls", *cluster, "--add", "--allow-principal", principals[role]]
            for operation in rights.operations:
                command += ["--operation", operation]
            for name in rights.names:
                command += [f"--{rights.resource}", name]
            if rights.are_prefixes:
                command += ["--resource-pattern-type", "prefixed"]
            yield shlex.join(command)
