"""Webhook and mail: signatures, and failures that are retried or final."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator

import orjson
import pytest

from engine.alerts.channels import (
    DeliveryFailed,
    DeliveryRefused,
    MailChannel,
    SmtpServer,
    WebhookChannel,
)
from tests.support.alerts import MESSAGE, Receiver


async def test_webhook_with_a_secret_is_signed(receiver: tuple[Receiver, str]) -> None:
    hook, url = receiver
    await WebhookChannel(url, "s3cret").send(MESSAGE)
    ((headers, body),) = hook.requests
    timestamp = headers["X-Tidegate-Timestamp"]
    expected = hmac.new(b"s3cret", f"{timestamp}.{body.decode()}".encode(), hashlib.sha256).hexdigest()
    assert headers["X-Tidegate-Signature"] == f"sha256={expected}"
    assert orjson.loads(body) == {"id": "0123", "condition": "lag", "text": "partition 0 lags", "v": 1}
    await WebhookChannel(url, "").send(MESSAGE)
    assert "X-Tidegate-Signature" not in hook.requests[1][0]


async def test_refused_connection_is_a_failed_delivery(receiver: tuple[Receiver, str]) -> None:
    with pytest.raises(DeliveryFailed):
        await WebhookChannel("http://127.0.0.1:9/", "").send(MESSAGE)


class FakeSmtpServer:
    """Enough of an SMTP server: accepts mail, or replies to RCPT with ``rcpt_reply``."""

    def __init__(self, rcpt_reply: str = "250 ok") -> None:
        self.rcpt_reply, self.mails = rcpt_reply, list[str]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def reply(text: str) -> None:
            writer.write(f"{text}\r\n".encode())

        reply("220 relay.example")
        while line := (await reader.readline()).decode().strip():
            verb = line[:4].upper()
            if verb == "DATA":
                reply("354 go on")
                self.mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
            reply(self.rcpt_reply if verb == "RCPT" else "221 bye" if verb == "QUIT" else "250 ok")
            if verb == "QUIT":
                break
        writer.close()


@pytest.fixture(params=["250 ok", "550 no such user", "451 later"])
async def smtp(request: pytest.FixtureRequest) -> AsyncIterator[tuple[FakeSmtpServer, SmtpServer]]:
    fake = FakeSmtpServer(request.param)
    async with await asyncio.start_server(fake.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield fake, SmtpServer(f"127.0.0.1:{port}", "none", "", "")


async def test_mail_is_delivered_or_fails_as_the_server_replies(smtp: tuple[FakeSmtpServer, SmtpServer]) -> None:
    fake, server = smtp
    mail = MailChannel(server, "tidegate@mx.example", ["ops@example.org"])
    if fake.rcpt_reply.startswith("2"):
        await mail.send(MESSAGE)
        (text,) = fake.mails
        assert "Subject: [tidegate] lag 0\r\n" in text
        assert "Message-ID: <0123@mx.example>\r\n" in text
        assert "Auto-Submitted: auto-generated\r\n" in text
        assert "\r\npartition 0 lags\r\n" in text
        return
    with pytest.raises(DeliveryRefused if fake.rcpt_reply.startswith("5") else DeliveryFailed):
        await mail.send(MESSAGE)
