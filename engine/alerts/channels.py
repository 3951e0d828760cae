"""Deliver a message by webhook or mail. Raises `DeliveryFailed` if a retry may succeed, `DeliveryRefused` if it won't.

The webhook's body is one JSON object. ``X-Tidegate-Signature`` is ``sha256=`` and the hex HMAC-SHA-256, keyed with the
secret, of the timestamp header, a dot and the body. A retry has the same ``id``, in body and mail alike. Each attempt ends
after `TIMEOUT_S`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import smtplib
import ssl
import time
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, Protocol

import aiohttp
import orjson

TIMEOUT_S = 10.0
VERSION = 1
RETRIED_STATUSES = frozenset({408, 425, 429})  # and all of 5xx
TIMESTAMP, SIGNATURE = "X-Tidegate-Timestamp", "X-Tidegate-Signature"


class DeliveryFailed(Exception):
    """The attempt failed; a later one may succeed."""


class DeliveryRefused(Exception):
    """The receiver refuses the message for good."""


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """A notice in the form in which channels send it."""

    subject: str  # one line
    text: str  # one sentence
    fields: dict[str, Any]  # for programs; `id` among them


class AlertChannel(Protocol):
    """A way to deliver messages."""

    name: str

    async def send(self, message: AlertMessage) -> None:
        """Deliver the message, or raise `DeliveryFailed` or `DeliveryRefused`."""


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of the signature header, which the receiver computes likewise."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class WebhookChannel:
    """Send messages as POST requests, signed if there is a secret."""

    name = "webhook"

    def __init__(self, url: str, secret: str) -> None:
        self._url, self._secret = url, secret

    async def send(self, message: AlertMessage) -> None:
        """POST the message; any status but 2xx is a failure, redirects too."""
        body, timestamp = orjson.dumps({**message.fields, "text": message.text, "v": VERSION}), str(int(time.time()))
        headers = {"Content-Type": "application/json", TIMESTAMP: timestamp}
        if self._secret:
            headers[SIGNATURE] = signature(self._secret, timestamp, body)
        try:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self._url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise DeliveryFailed(str(error) or type(error).__name__) from error
        if status >= 500 or status in RETRIED_STATUSES:
            raise DeliveryFailed(f"status {status}")
        if not 200 <= status < 300:
            raise DeliveryRefused(f"status {status}")


class SmtpServer:
    """The server that takes our mail. ``security``: "none", "starttls" or "tls". Without a user there is no login."""

    def __init__(self, server: str, security: str, user: str, password: str) -> None:
        host, _, port = server.rpartition(":")
        self.host, self.port, self.security = host.removeprefix("[").removesuffix("]"), int(port), security
        self.user, self.password = user, password

    def submit(self, mail: EmailMessage) -> None:
        """Submit one mail. Blocks; raises smtplib's errors and OSError."""
        context = ssl.create_default_context()
        connection = (
            smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT_S, context=context)
            if self.security == "tls"
            else smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_S)
        )
        with connection as smtp:
            if self.security == "starttls":
                smtp.starttls(context=context)
            if self.user:
                smtp.login(self.user, self.password)
            smtp.send_message(mail)


class MailChannel:
    """Send messages as mail to all receivers."""

    name = "mail"

    def __init__(self, server: SmtpServer, sender: str, receivers: list[str]) -> None:
        self._server, self._sender, self._receivers = server, sender, receivers

    async def send(self, message: AlertMessage) -> None:
        """Submit the mail in a thread; a 5xx reply is final."""
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = self._sender, ", ".join(self._receivers), message.subject
        mail["Message-ID"] = f"<{message.fields['id']}@{self._sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        lines = [f"{name}: {value}" for name, value in message.fields.items()]
        mail.set_content("\n".join([message.text, "", *lines]) + "\n")
        try:
            await asyncio.to_thread(self._server.submit, mail)
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            codes = (
                [code for code, _ in error.recipients.values()]
                if isinstance(error, smtplib.SMTPRecipientsRefused)
                else [error.smtp_code]
            )
            if all(code >= 500 for code in codes):
                raise DeliveryRefused(str(error)) from error
            raise DeliveryFailed(str(error)) from error
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryFailed(str(error) or type(error).__name__) from error
