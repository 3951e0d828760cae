"""Faust's own clients get the credentials that all other clients have."""

from __future__ import annotations

from pathlib import Path

import pytest
from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials

from engine.config.kafka_options import KafkaOptions
from engine.worker.app import faust_credentials


def test_plaintext_cluster_needs_no_credentials() -> None:
    assert faust_credentials(KafkaOptions().client_options()) is None


def test_tls_cluster_gets_the_ssl_context() -> None:
    options = KafkaOptions(security_protocol="SSL").client_options()

    found = faust_credentials(options)

    assert isinstance(found, SSLCredentials)
    assert found.context is options["ssl_context"]


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_sasl_cluster_gets_user_mechanism_and_protocol(protocol: str, mechanism: str) -> None:
    options = KafkaOptions(
        security_protocol=protocol, sasl_mechanism=mechanism, sasl_username="tidegate", sasl_password="secret"
    ).client_options()

    found = faust_credentials(options)

    assert isinstance(found, SASLCredentials)
    assert (found.username, found.password) == ("tidegate", "secret")
    assert (found.protocol.value, found.mechanism.value) == (protocol, mechanism)
    assert found.ssl_context is options.get("ssl_context")


def test_oauth_cluster_gets_the_token_provider(tmp_path: Path) -> None:
    options = KafkaOptions(
        security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER", sasl_token_file=str(tmp_path / "token")
    ).client_options()

    found = faust_credentials(options)

    assert isinstance(found, OAuthCredentials)
    assert found.oauth_cb is options["sasl_oauth_token_provider"]
    assert found.ssl_context is options["ssl_context"]
