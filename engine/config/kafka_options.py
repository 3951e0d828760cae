"""Declarations of the options in [kafka]: the connection to the cluster, and how a client proves who it is.

`KafkaOptions.check` refuses options that contradict each other. `KafkaOptions.client_options` reads the files that the options
name, so a changed certificate or password applies to every client that is made later. Tokens are read for each connection.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from engine.config import validators
from engine.config.option import option
from topics.errors import OperatorError

OAUTHBEARER = "OAUTHBEARER"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", OAUTHBEARER)
REVEALING = ("PLAIN", OAUTHBEARER)  # mechanisms that send the secret itself


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """Connection to the Kafka cluster."""

    bootstrap: str = option(
        "", "brokers, HOST:PORT, comma-separated; empty: `up` and `demo` start their own", validate=validators.servers
    )
    client_id: str = option(
        "tidegate", "client id, as in the cluster's logs and quotas", validate=validators.required_name
    )
    security_protocol: str = option(
        "PLAINTEXT", "protocol of the broker's listener", choices=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
    )
    ssl_cafile: str = option("", "PEM file with the CA of the brokers' certificates; empty: the system's CAs")
    ssl_certfile: str = option("", "PEM file with this client's certificate, and its chain; empty: none")
    ssl_keyfile: str = option("", "PEM file with the certificate's private key; empty: it is in ssl_certfile")
    ssl_key_password: str = option("", "password of an encrypted private key; prefer the environment", secret=True)
    sasl_mechanism: str = option("PLAIN", "SASL mechanism", choices=MECHANISMS)
    sasl_username: str = option("", "SASL user; the client id at sasl_token_url")
    sasl_password: str = option(
        "",
        "SASL password; the client secret at sasl_token_url; prefer sasl_password_file or the environment",
        secret=True,
    )
    sasl_password_file: str = option("", "file with the SASL password, instead of sasl_password")
    sasl_token_file: str = option("", "OAUTHBEARER: file with the token, read for each connection")
    sasl_token_url: str = option(
        "",
        "OAUTHBEARER: endpoint that issues tokens to client credentials, instead of sasl_token_file",
        validate=validators.web_address,
    )
    sasl_token_scope: str = option("", "scope that is requested at sasl_token_url; empty: none")
    plaintext_passwords: str = option(
        "refuse",
        "allow: send passwords and tokens (PLAIN, OAUTHBEARER) without encryption to other machines",
        choices=("refuse", "allow"),
    )
    request_timeout_ms: int = option(40_000, "timeout of a request to a broker", low=1_000, high=600_000)

    def check(self) -> None:
        """Raise `OperatorError` for options that contradict each other, missing files, and secrets sent in the clear."""
        self._check_sasl()
        if self.ssl_certfile and not self.has_tls:
            raise OperatorError("kafka.ssl_certfile needs kafka.security_protocol = SSL or SASL_SSL")
        if (self.ssl_keyfile or self.ssl_key_password) and not self.ssl_certfile:
            raise OperatorError("kafka.ssl_keyfile and kafka.ssl_key_password need kafka.ssl_certfile")
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "sasl_password_file", "sasl_token_file"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                raise OperatorError(f"kafka.{name} = {path!r}: no such file")
        if self.plaintext_passwords == "refuse":
            self._check_secrets()

    def warning(self) -> str:
        """Return a sentence if the connection to other machines isn't encrypted, else ""."""
        if self.has_tls or not self._leaves_the_machine:
            return ""
        reach = "read mail servers' clients" if self.has_sasl else "read mail servers' clients and publish decisions"
        return (
            f"kafka.security_protocol = {self.security_protocol}, and kafka.bootstrap names other machines: everybody on the "
            f"network between can {reach}; use {'SASL_SSL' if self.has_sasl else 'SSL or SASL_SSL'}"
        )

    def client_options(self) -> dict[str, Any]:
        """Return keyword arguments for any aiokafka client: consumer, producer or admin.

        Raises `OperatorError` for a certificate, key or password file that can't be used.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "client_id": self.client_id,
            "request_timeout_ms": self.request_timeout_ms,
            "security_protocol": self.security_protocol,
        }
        if self.has_tls:
            options["ssl_context"] = self._ssl_context()
        if self.has_sasl:
            options |= {"sasl_mechanism": self.sasl_mechanism, **self._credentials()}
        return options

    @property
    def has_tls(self) -> bool:
        """True if the connection is encrypted."""
        return "SSL" in self.security_protocol

    @property
    def has_sasl(self) -> bool:
        """True if clients authenticate by SASL."""
        return "SASL" in self.security_protocol

    @property
    def _leaves_the_machine(self) -> bool:
        return not all(map(_is_loopback, validators.split_list(self.bootstrap)))

    def _check_sasl(self) -> None:
        passwords = [bool(self.sasl_password), bool(self.sasl_password_file)]
        tokens = [bool(self.sasl_token_file), bool(self.sasl_token_url)]
        credentials = (bool(self.sasl_username), sum(passwords))
        if not self.has_sasl or self.sasl_mechanism != OAUTHBEARER:
            if any(tokens) or self.sasl_token_scope:
                raise OperatorError(
                    "kafka.sasl_token_file, sasl_token_url and sasl_token_scope need kafka.sasl_mechanism = OAUTHBEARER and "
                    "kafka.security_protocol = SASL_SSL or SASL_PLAINTEXT"
                )
            if credentials != ((True, 1) if self.has_sasl else (False, 0)):
                raise OperatorError(
                    f"kafka.security_protocol = {self.security_protocol}: SASL_PLAINTEXT and SASL_SSL need "
                    "kafka.sasl_username and either kafka.sasl_password or kafka.sasl_password_file; other protocols allow none"
                )
            return
        if sum(tokens) != 1:
            raise OperatorError(
                "kafka.sasl_mechanism = OAUTHBEARER needs kafka.sasl_token_file or kafka.sasl_token_url"
            )
        if credentials != ((True, 1) if self.sasl_token_url else (False, 0)):
            raise OperatorError(
                "kafka.sasl_token_url needs kafka.sasl_username and either kafka.sasl_password or kafka.sasl_password_file; "
                "kafka.sasl_token_file allows none"
            )

    def _check_secrets(self) -> None:
        if self.has_sasl and not self.has_tls and self.sasl_mechanism in REVEALING and self._leaves_the_machine:
            raise OperatorError(
                f"kafka.security_protocol = SASL_PLAINTEXT would send the secret of {self.sasl_mechanism} unencrypted to "
                "another machine: use SASL_SSL, or set kafka.plaintext_passwords = allow"
            )
        host = self.sasl_token_url.partition("://")[2].partition("/")[0].rpartition("@")[2]
        if self.sasl_token_url.startswith("http://") and not _is_loopback(host):
            raise OperatorError(
                "kafka.sasl_token_url would send the client's secret unencrypted to another machine: give an https URL, or set "
                "kafka.plaintext_passwords = allow"
            )

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile or None)
        except (OSError, ValueError) as error:
            raise OperatorError(f"kafka.ssl_cafile = {self.ssl_cafile!r} can't be used: {error}") from error
        if self.ssl_certfile:
            try:  # a function as password: without one, OpenSSL asks the terminal for it
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile or None, lambda: self.ssl_key_password)
            except (OSError, ValueError) as error:
                raise OperatorError(
                    f"kafka.ssl_certfile = {self.ssl_certfile!r} with its key can't be used: {error}; give PEM files that "
                    "belong together, and kafka.ssl_key_password for an encrypted key"
                ) from error
        return context

    def _credentials(self) -> dict[str, Any]:
        if self.sasl_mechanism != OAUTHBEARER:
            return {"sasl_plain_username": self.sasl_username, "sasl_plain_password": self._password()}
        from engine.config.access_tokens import ClientCredentials, FileToken  # noqa: PLC0415 (needs Kafka's client)

        if self.sasl_token_file:
            return {"sasl_oauth_token_provider": FileToken(Path(self.sasl_token_file))}
        provider = ClientCredentials(self.sasl_token_url, self.sasl_username, self._password(), self.sasl_token_scope)
        return {"sasl_oauth_token_provider": provider}

    def _password(self) -> str:
        if not self.sasl_password_file:
            return self.sasl_password
        try:
            text = Path(self.sasl_password_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise OperatorError(
                f"kafka.sasl_password_file = {self.sasl_password_file!r} can't be read: {reason}"
            ) from error
        password = text.removesuffix("\n").removesuffix("\r")
        if not password:
            raise OperatorError(f"kafka.sasl_password_file = {self.sasl_password_file!r} is empty")
        return password


def _is_loopback(server: str) -> bool:
    """Return True for HOST, or HOST:PORT, on this machine."""
    host = server.removesuffix("]") if server.endswith("]") else server.rpartition(":")[0] or server
    host = host.removeprefix("[").removesuffix("]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
