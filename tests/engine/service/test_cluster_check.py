"""The check of a cluster reports a connection that others can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from engine.config.load import load_settings
from engine.kafka import topic_admin
from engine.service.checks import OK, WARN, check_cluster


@pytest.mark.parametrize(
    ("bootstrap", "protocol", "states"),
    [
        ("kafka1.example:9092", "PLAINTEXT", [OK, WARN, OK]),
        ("127.0.0.1:9092", "PLAINTEXT", [OK, OK]),
        ("kafka1.example:9093", "SSL", [OK, OK]),
    ],
)
async def test_unencrypted_connection_to_other_machines_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, bootstrap: str, protocol: str, states: list[str]
) -> None:
    async def differences(*_: object) -> list[Mapping[str, Any]]:
        return []

    monkeypatch.setattr(topic_admin, "differences", differences)
    settings = load_settings(None, {}, {"kafka.bootstrap": bootstrap, "kafka.security_protocol": protocol})

    findings = await check_cluster(settings)

    assert [finding.state for finding in findings] == states
