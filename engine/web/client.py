"""HTTP client of the commands for a worker: one GET, one JSON reply, one `OperatorError` with one line on failure."""

from __future__ import annotations

import http.client
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from engine.config.load import Settings
from engine.config.validators import parse_listen_addresses
from topics.errors import OperatorError

TIMEOUT_S = 10.0
EXAMPLE = "http://127.0.0.1:10090"


class WorkerAddress(NamedTuple):
    """Host and port of a worker's HTTP server."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def worker_address(settings: Settings, url: str | None) -> WorkerAddress:
    """Return the address in ``url``, or else the first one of worker.http; `OperatorError` if there is none."""
    if not url:
        addresses = parse_listen_addresses(settings.worker.http)
        if not addresses:
            raise OperatorError(f"worker.http is empty: give the worker's address, such as --url {EXAMPLE}")
        return WorkerAddress(addresses[0].host, addresses[0].port)
    parts = urlsplit(url)
    try:
        if parts.scheme == "http" and parts.hostname and parts.port:
            return WorkerAddress(parts.hostname, parts.port)
    except ValueError:
        pass
    raise OperatorError(f"--url {url}: give it as {EXAMPLE}")


def get_json(address: WorkerAddress, path: str) -> tuple[int, Any]:
    """Return status and JSON of a GET; `OperatorError` if no worker replies there."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, orjson.loads(response.read())
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise OperatorError(
            f"no worker answers at {address}: {reason}: is it running, and is that its worker.http?"
        ) from None
    except orjson.JSONDecodeError:
        raise OperatorError(f"the server at {address} is not a worker: give another address with --url") from None
    finally:
        connection.close()
