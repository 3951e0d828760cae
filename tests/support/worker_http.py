"""HTTP requests to a worker, for system tests."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

import orjson

from tests.support.workers import WAIT_S


class WorkerHttp:
    """The HTTP server of a worker on this machine."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a GET."""
        return _status_and_body(self.url + path)

    def get_json(self, path: str) -> Any:
        """Return the JSON of a GET whose status must be 200."""
        status, body = self.get(path)
        assert status == 200, body
        return orjson.loads(body)

    def post_override(self, body: bytes, token: str) -> tuple[int, Any]:
        """Return status and JSON of a change of overrides."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        status, reply = _status_and_body(urllib.request.Request(f"{self.url}/v1/overrides", body, headers))
        return status, orjson.loads(reply)


def _status_and_body(request: str | urllib.request.Request) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
