"""Tokens for SASL OAUTHBEARER: from a file, or from an endpoint that issues them to client credentials (RFC 6749, 4.4).

aiokafka asks its provider for a token at each new connection. A failure is an `OSError`, which every Kafka client here retries.
Limits: `TIMEOUT_S` for a request, `MAX_BYTES` for a file or a reply.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

from aiokafka.abc import AbstractTokenProvider

TIMEOUT_S = 10.0
MAX_BYTES = 64 << 10
USED_SHARE = 0.8  # of a token's life, then another one is requested
SHORTEST_LIFE_S = 60.0  # assumed if the endpoint names no life


class FileToken(AbstractTokenProvider):  # type: ignore[misc]
    """The token in a file, which another program renews."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        """Return the token that the file has now."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> str:
        with self._path.open("rb") as file:
            text = file.read(MAX_BYTES)
        return _checked(text.decode("ascii", "replace").strip(), str(self._path))


class _NoRedirects(HTTPRedirectHandler):
    """Refuses redirects: the secret is sent to no other address."""

    def redirect_request(self, *_: Any) -> None:
        """Return None, so that the redirect is an error."""
        return


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens that an endpoint issues to a client id and secret. A token is reused for `USED_SHARE` of its life."""

    def __init__(self, url: str, client_id: str, secret: str, scope: str) -> None:
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()  # encoded by RFC 6749, 2.3.1
        form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}
        headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}", "Accept": "application/json"}
        self._request = Request(url, urlencode(form).encode(), headers)  # noqa: S310 (http or https, by its validator)
        self._lock = threading.Lock()  # Faust's consumer has a thread and a loop of its own
        self._token, self._renewed_at_s = "", 0.0

    async def token(self) -> str:
        """Return a valid token."""
        return await asyncio.to_thread(self._valid)

    def _valid(self) -> str:
        with self._lock:
            now_s = time.monotonic()
            if not self._token or now_s >= self._renewed_at_s:
                self._token, life_s = self._issue()
                self._renewed_at_s = now_s + USED_SHARE * life_s
            return self._token

    def _issue(self) -> tuple[str, float]:
        url = self._request.full_url
        with build_opener(_NoRedirects).open(self._request, timeout=TIMEOUT_S) as reply:
            body = reply.read(MAX_BYTES)
        try:
            fields = json.loads(body)
            token, life_s = str(fields["access_token"]), float(fields.get("expires_in", SHORTEST_LIFE_S))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise OSError(f"{url} didn't reply with an access token") from error
        return _checked(token, url), life_s


def _checked(token: str, origin: str) -> str:
    if not token or not token.isascii() or not token.isprintable():
        raise OSError(f"{origin} has no token of printable ASCII characters")
    return token
