"""Webhook and mail: how a notice leaves. `Undelivered` when it may work later, `Refused` when it will not.

The webhook's body is one JSON object; ``X-Tidegate-Signature`` is ``sha256=`` and the hex HMAC-SHA-256, under the secret, of
the timestamp header, a dot and the body. A repetition after a failure has the same ``id``, in body and mail alike.
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

WAIT_S = 10.0
VERSION = 1
LATER = frozenset({408, 425, 429})  # and whatever is the other side's fault
TIMESTAMP, SIGNATURE = "X-Tidegate-Timestamp", "X-Tidegate-Signature"


class Undelivered(Exception):
    """It did not work; it may, later."""


class Refused(Exception):
    """The receiver doesn't want it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One notice on its way. ``subject``: a line; ``text``: the sentence; ``fields``: for programs, ``id`` among them."""

    subject: str
    text: str
    fields: dict[str, Any]


class Channel(Protocol):
    """One way out, by ``name``."""

    name: str

    async def send(self, message: Message) -> None:
        """Deliver it; `Undelivered`, `Refused`."""


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What a receiver computes to see that it was us."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook:
    """POSTs to ``url``, signed if there is a ``secret``."""

    name = "webhook"

    def __init__(self, url: str, secret: str) -> None:
        self._url, self._secret = url, secret

    async def send(self, message: Message) -> None:
        """Anything but 2xx is a failure."""
        body, timestamp = orjson.dumps({**message.fields, "text": message.text, "v": VERSION}), str(int(time.time()))
        headers = {"Content-Type": "application/json", TIMESTAMP: timestamp}
        if self._secret:
            headers[SIGNATURE] = signature(self._secret, timestamp, body)
        try:
            timeout = aiohttp.ClientTimeout(total=WAIT_S)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self._url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Undelivered(str(error) or type(error).__name__) from error
        if status >= 500 or status in LATER:
            raise Undelivered(f"status {status}")
        if not 200 <= status < 300:
            raise Refused(f"status {status}")


class Relay:
    """Where mail is handed in. ``security``: "none", "starttls" or "tls"; no log-in without a ``user``."""

    def __init__(self, server: str, security: str, user: str, password: str) -> None:
        host, _, port = server.rpartition(":")
        self.host, self.port, self.security = host.removeprefix("[").removesuffix("]"), int(port), security
        self.user, self.password = user, password

    def submit(self, mail: EmailMessage) -> None:
        """Hand one in; smtplib's errors and OSError come through."""
        context = ssl.create_default_context()
        implicit = self.security == "tls"
        opened = (
            smtplib.SMTP_SSL(self.host, self.port, timeout=WAIT_S, context=context)
            if implicit
            else smtplib.SMTP(self.host, self.port, timeout=WAIT_S)
        )
        with opened as smtp:
            if self.security == "starttls":
                smtp.starttls(context=context)
            if self.user:
                smtp.login(self.user, self.password)
            smtp.send_message(mail)


class Mail:
    """Mails to ``receivers`` through ``relay``."""

    name = "mail"

    def __init__(self, relay: Relay, sender: str, receivers: list[str]) -> None:
        self._relay, self._sender, self._receivers = relay, sender, receivers

    async def send(self, message: Message) -> None:
        """A refusal of the 5xx kind is final."""
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = self._sender, ", ".join(self._receivers), message.subject
        mail["Message-ID"] = f"<{message.fields['id']}@{self._sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        lines = [f"{name}: {value}" for name, value in message.fields.items()]
        mail.set_content("\n".join([message.text, "", *lines]) + "\n")
        try:
            await asyncio.to_thread(self._relay.submit, mail)
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            codes = (
                [code for code, _ in error.recipients.values()]
                if isinstance(error, smtplib.SMTPRecipientsRefused)
                else [error.smtp_code]
            )
            if all(code >= 500 for code in codes):
                raise Refused(str(error)) from error
            raise Undelivered(str(error)) from error
        except (smtplib.SMTPException, OSError) as error:
            raise Undelivered(str(error) or type(error).__name__) from error
