"""Asking a worker over its HTTP, for the commands: one question, one JSON answer, one clear line when nobody answers."""

from __future__ import annotations

import http.client
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from engine.config.load import Settings
from engine.config.validators import listed
from topics.errors import OperatorError

WAIT_S = 10.0


class Place(NamedTuple):
    """Where a worker answers."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def place_of(settings: Settings, url: str | None) -> Place:
    """Where ``url`` says; without one, the first place of worker.http. `OperatorError` if that says nothing."""
    first = next(iter(listed(settings.worker.http)), "")
    if not (url or first):
        raise OperatorError("worker.http is empty: say where the worker answers: --url http://127.0.0.1:10090")
    parts = urlsplit(url or f"http://{first}")
    try:
        if parts.scheme == "http" and parts.hostname and parts.port:
            return Place(parts.hostname, parts.port)
    except ValueError:
        pass
    raise OperatorError(f"--url {url}: give it as http://127.0.0.1:10090")


def ask(place: Place, path: str) -> tuple[int, Any]:
    """Status and JSON of a GET. `OperatorError` if no worker answers there."""
    connection = http.client.HTTPConnection(place.host, place.port, timeout=WAIT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, orjson.loads(response.read())
    except (OSError, http.client.HTTPException) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise OperatorError(
            f"no worker answers at {place}: {said}: is it running, and is that its worker.http?"
        ) from None
    except orjson.JSONDecodeError:
        raise OperatorError(f"what answers at {place} is no worker: name another place with --url") from None
    finally:
        connection.close()
