"""Connections to secured clusters: which options belong together, and which secrets never leave the machine unencrypted."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.access_tokens import ClientCredentials, FileToken
from engine.config.kafka_options import KafkaOptions
from tests.support.certificates import authority, issue
from topics.errors import OperatorError

AWAY = "kafka1.example:9093"
USER = {"sasl_username": "worker", "sasl_password": "s3cret"}
OAUTH = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}
ENDPOINT = "https://login.example/token"


def refusal(**options: str) -> str:
    with pytest.raises(OperatorError) as refused:
        KafkaOptions(**options).check()  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    assert "s3cret" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """A file with a password."""
    path = tmp_path / "secret"
    path.write_text("from file\n")
    return str(path)


def test_password_of_a_file_is_read_without_its_line_end(secret: str) -> None:
    options = KafkaOptions(security_protocol="SASL_SSL", sasl_username="worker", sasl_password_file=secret)

    options.check()

    assert options.client_options()["sasl_plain_password"] == "from file"


def test_password_file_that_is_replaced_applies_to_the_next_client(secret: str) -> None:
    options = KafkaOptions(security_protocol="SASL_SSL", sasl_username="worker", sasl_password_file=secret)
    options.client_options()

    Path(secret).write_text("newer")

    assert options.client_options()["sasl_plain_password"] == "newer"


def test_empty_password_file_is_refused_when_a_client_is_made(secret: str) -> None:
    Path(secret).write_text("\n")
    options = KafkaOptions(security_protocol="SASL_SSL", sasl_username="worker", sasl_password_file=secret)

    with pytest.raises(OperatorError, match="is empty"):
        options.client_options()


def test_password_and_password_file_together_are_refused(secret: str) -> None:
    assert "either" in refusal(security_protocol="SASL_SSL", **USER, sasl_password_file=secret)


@pytest.mark.parametrize("name", ["ssl_cafile", "ssl_certfile", "ssl_keyfile", "sasl_password_file", "sasl_token_file"])
def test_missing_file_is_refused(name: str, secret: str) -> None:
    base = {"security_protocol": "SSL", "ssl_certfile": secret}
    if name == "sasl_password_file":
        base = {"security_protocol": "SASL_SSL", "sasl_username": "worker"}
    elif name == "sasl_token_file":
        base = dict(OAUTH)

    assert "no such file" in refusal(**{**base, name: "/none.pem"})


@pytest.mark.parametrize(
    "options",
    [
        {"sasl_token_url": ENDPOINT},
        {"security_protocol": "SASL_SSL", **USER, "sasl_token_url": ENDPOINT},
        OAUTH,
        {**OAUTH, "sasl_token_url": ENDPOINT},
        {**OAUTH, **USER},
        {"ssl_certfile": "c.pem"},
        {"security_protocol": "SSL", "ssl_keyfile": "k.pem"},
        {"security_protocol": "SSL", **USER},
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, str]) -> None:
    assert refusal(**options)


@pytest.mark.parametrize("bootstrap", [AWAY, "127.0.0.1:9092,10.0.0.1:9092", "0.0.0.0:9092"])
def test_password_without_encryption_to_another_machine_is_refused(bootstrap: str) -> None:
    message = refusal(bootstrap=bootstrap, security_protocol="SASL_PLAINTEXT", **USER)

    assert "SASL_SSL" in message
    assert "plaintext_passwords = allow" in message


@pytest.mark.parametrize(
    "options",
    [
        {"bootstrap": "localhost:9092,127.0.0.2:9092,[::1]:9092"},
        {"bootstrap": AWAY, "plaintext_passwords": "allow"},
        {"bootstrap": AWAY, "sasl_mechanism": "SCRAM-SHA-512"},
        {"bootstrap": AWAY, "security_protocol": "SASL_SSL"},
    ],
)
def test_password_that_stays_secret_is_accepted(options: dict[str, str]) -> None:
    KafkaOptions(**{"security_protocol": "SASL_PLAINTEXT", **USER, **options}).check()  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["http://login.example/token", "http://localhost@login.example/token"])
def test_secret_to_an_endpoint_without_encryption_is_refused(url: str) -> None:
    assert "https" in refusal(**OAUTH, **USER, sasl_token_url=url)


@pytest.mark.parametrize(("bootstrap", "warned"), [(AWAY, True), ("127.0.0.1:9092", False), ("", False)])
def test_warning_names_an_unencrypted_connection_to_other_machines(bootstrap: str, warned: bool) -> None:
    assert ("PLAINTEXT" in KafkaOptions(bootstrap=bootstrap).warning()) == warned
    assert KafkaOptions(bootstrap=bootstrap, security_protocol="SSL").warning() == ""


def test_client_certificate_with_an_encrypted_key_is_loaded(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    client = issue(ca, "worker", password="key-password")
    files = {"ssl_cafile": str(ca.certificate), "ssl_certfile": str(client.certificate), "ssl_keyfile": str(client.key)}
    options = KafkaOptions(security_protocol="SSL", ssl_key_password="key-password", **files)  # type: ignore[arg-type]

    options.check()

    assert options.client_options()["ssl_context"].get_ca_certs()[0]["subject"] == ((("commonName", "ca"),),)


def test_key_with_the_wrong_password_is_one_line(tmp_path: Path) -> None:
    client = issue(authority(tmp_path), "worker", password="key-password")
    files = {"ssl_certfile": str(client.certificate), "ssl_keyfile": str(client.key)}

    with pytest.raises(OperatorError, match="ssl_key_password") as refused:
        KafkaOptions(security_protocol="SSL", ssl_key_password="wrong", **files).client_options()  # type: ignore[arg-type]

    assert "\n" not in str(refused.value)


def test_ca_file_without_certificates_is_one_line(secret: str) -> None:
    with pytest.raises(OperatorError, match="ssl_cafile"):
        KafkaOptions(security_protocol="SSL", ssl_cafile=secret).client_options()


def test_oauthbearer_gets_the_provider_that_the_options_name(secret: str) -> None:
    by_file = KafkaOptions(**OAUTH, sasl_token_file=secret)  # type: ignore[arg-type]
    by_url = KafkaOptions(**OAUTH, **USER, sasl_token_url=ENDPOINT)  # type: ignore[arg-type]

    by_file.check()
    by_url.check()

    assert isinstance(by_file.client_options()["sasl_oauth_token_provider"], FileToken)
    assert isinstance(by_url.client_options()["sasl_oauth_token_provider"], ClientCredentials)
