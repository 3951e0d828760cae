"""Tokens for OAUTHBEARER: read again for each connection, or issued by an endpoint and reused while they are valid."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from engine.config.access_tokens import ClientCredentials, FileToken


class Endpoint(HTTPServer):
    """Issues the tokens ``token-1``, ``token-2``, ...; `reply` replaces them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Issuer)
        self.requests: list[tuple[str | None, dict[str, list[str]]]] = []
        self.status, self.life_s, self.reply = 200, 3600.0, b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/token"


class Issuer(BaseHTTPRequestHandler):
    """One request to the endpoint."""

    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.requests.append((self.headers["Authorization"], parse_qs(body)))
        fields = {"access_token": f"token-{len(self.server.requests)}", "expires_in": self.server.life_s}
        self.send_response(self.server.status)
        self.send_header("Location", self.server.url)
        self.end_headers()
        self.wfile.write(self.server.reply or json.dumps(fields).encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A running endpoint."""
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_token_file_is_read_for_each_connection(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    provider = FileToken(path)
    before = await provider.token()

    path.write_text("second\n")

    assert (before, await provider.token()) == ("first", "second")


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"\xff\xfe"])
async def test_file_without_a_token_is_an_error_that_clients_retry(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)

    with pytest.raises(OSError, match="no token"):
        await FileToken(path).token()


async def test_missing_token_file_is_an_error_that_clients_retry(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="token"):
        await FileToken(tmp_path / "token").token()


async def test_issued_token_is_reused_while_it_is_valid(endpoint: Endpoint) -> None:
    provider = ClientCredentials(endpoint.url, "worker", "a:b c", "kafka")

    tokens = [await provider.token() for _ in range(3)]

    assert tokens == ["token-1"] * 3
    ((authorization, form),) = endpoint.requests
    assert authorization == "Basic " + base64.b64encode(b"worker:a%3Ab+c").decode()
    assert form == {"grant_type": ["client_credentials"], "scope": ["kafka"]}


async def test_expired_token_is_replaced(endpoint: Endpoint) -> None:
    endpoint.life_s = 0
    provider = ClientCredentials(endpoint.url, "worker", "secret", "")

    assert [await provider.token() for _ in range(2)] == ["token-1", "token-2"]


@pytest.mark.parametrize("reply", [b"<html>", b"[]", b"{}", b'{"access_token": "a b\\n"}', b'{"access_token": ""}'])
async def test_reply_without_a_token_is_an_error_that_clients_retry(endpoint: Endpoint, reply: bytes) -> None:
    endpoint.reply = reply

    with pytest.raises(OSError, match="token"):
        await ClientCredentials(endpoint.url, "worker", "secret", "").token()


@pytest.mark.parametrize("status", [302, 307, 401, 500])
async def test_redirect_or_refusal_sends_the_secret_only_once(endpoint: Endpoint, status: int) -> None:
    endpoint.status = status

    with pytest.raises(OSError, match=str(status)):
        await ClientCredentials(endpoint.url, "worker", "secret", "").token()

    assert len(endpoint.requests) == 1
