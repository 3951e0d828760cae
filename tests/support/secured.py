"""A broker with an authorizer, whose listeners demand TLS and credentials, for system tests."""

from __future__ import annotations

import base64
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from benchmarks.harness.ports import free_port
from engine.broker import EmbeddedBroker
from tests.support.certificates import Certificate, authority, issue
from tests.support.kafkatools import run_tool
from tests.support.workers import environment, tidegate

LOCAL = "127.0.0.1"
LISTENERS = ("CLIENTS", "SCRAM", "MUTUAL", "OAUTH")
MODULES = {
    "scram.scram-sha-512": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    "oauth.oauthbearer": "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
    'unsecuredLoginStringClaim_sub="broker";',
}


class SecuredBroker:
    """Addresses and credentials of a running broker.

    On ``admin`` everything is allowed. The other listeners have TLS: with SCRAM-SHA-512, with client certificates, with tokens.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.ports = folder, {name: free_port() for name in LISTENERS}
        self.ca = authority(folder)
        self.admin = f"{LOCAL}:{self.ports['CLIENTS']}"

    def settings(self) -> dict[str, str]:
        """Return the broker's configuration."""
        controller = free_port()
        clients = ",".join(f"{name}://{LOCAL}:{port}" for name, port in self.ports.items())
        protocols = {"CLIENTS": "PLAINTEXT", "SCRAM": "SASL_SSL", "MUTUAL": "SSL", "OAUTH": "SASL_SSL"}
        settings = {
            "listeners": f"{clients},CONTROLLER://{LOCAL}:{controller}",
            "advertised.listeners": clients,
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in {**protocols, "CONTROLLER": "PLAINTEXT"}.items()
            ),
            "controller.quorum.voters": f"1@{LOCAL}:{controller}",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
        }
        settings |= {f"listener.name.{name}.sasl.jaas.config": module for name, module in MODULES.items()}
        keystore = issue(self.ca, "broker").together()
        for name in ("scram", "mutual", "oauth"):
            stores = {"keystore": keystore, "truststore": self.ca.certificate}
            for store, path in stores.items():
                settings[f"listener.name.{name}.ssl.{store}.type"] = "PEM"
                settings[f"listener.name.{name}.ssl.{store}.location"] = str(path)
        return settings

    def scram(self, user: str) -> dict[str, object]:
        """Return the options of a user whose password is in a file."""
        path = self.folder / f"{user}.password"
        path.write_text(f"{user} secret\n")
        return self._options("SCRAM", "SASL_SSL") | {
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD_FILE": path,
        }

    def mutual(self, client: Certificate | None) -> dict[str, object]:
        """Return the options of a client with this certificate, or without one."""
        files = {} if client is None else {"KAFKA_SSL_CERTFILE": client.certificate, "KAFKA_SSL_KEYFILE": client.key}
        return self._options("MUTUAL", "SSL") | files

    def oauth(self, user: str) -> dict[str, object]:
        """Return the options of a user with a token, which Kafka's validator for tests accepts without a signature."""
        claims = {"sub": user, "iat": int(time.time()) - 60, "exp": int(time.time()) + 3600}
        parts = [base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=") for part in ({"alg": "none"}, claims)]
        path = self.folder / f"{user}.token"
        path.write_bytes(b".".join([*parts, b""]))
        return self._options("OAUTH", "SASL_SSL") | {
            "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
            "KAFKA_SASL_TOKEN_FILE": path,
        }

    def _options(self, listener: str, protocol: str) -> dict[str, object]:
        return {
            "KAFKA_BOOTSTRAP": f"{LOCAL}:{self.ports[listener]}",
            "KAFKA_SECURITY_PROTOCOL": protocol,
            "KAFKA_SSL_CAFILE": self.ca.certificate,
        }


@contextmanager
def secured_broker(folder: Path, users: tuple[str, ...]) -> Iterator[SecuredBroker]:
    """Run a secured broker that knows these users."""
    secured = SecuredBroker(folder)
    with EmbeddedBroker(folder / "broker", port=secured.ports["CLIENTS"], settings=secured.settings()):
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        admin = AdminClient({"bootstrap.servers": secured.admin})
        changes: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(user, scram, f"{user} secret".encode()) for user in users
        ]
        for change in admin.alter_user_scram_credentials(changes).values():
            change.result(20)
        yield secured


def grant(secured: SecuredBroker, prefix: str, principals: Mapping[str, str]) -> None:
    """Run the commands that `tidegate topics --acls` prints."""
    chosen = [text for role, principal in principals.items() for text in ("--principal", f"{role}={principal}")]
    printed = tidegate("topics", "--acls", *chosen, env=environment(secured.admin, prefix, 2))
    assert printed.returncode == 0, printed.stderr
    for line in printed.stdout.decode().splitlines():
        if not line.startswith("#"):
            program, *arguments = shlex.split(line)
            assert program == "kafka-acls"
            run_tool("AclCommand", *arguments)
