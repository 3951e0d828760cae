"""`tidegate reload`: a worker reads its configuration again."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any

import click

from engine.cli.options import settings_from, url_option
from engine.web.client import Place, ask, place_of
from topics.errors import OperatorError

WAIT_S = 30.0
LOOK_S = 0.1


@click.command(epilog="Example:  tidegate reload")
@url_option
@click.pass_context
def reload(ctx: click.Context, url: str | None) -> None:
    """Have the worker on this machine read its configuration again: thresholds, replies and relays, without losing state.

    What stands here is checked first. The worker takes it whole between two blocks, or refuses it whole and says why (exit
    status 2). It is told by SIGHUP, so you must be its user or root; `systemctl reload` and `kill -HUP` do the same.
    """
    place = place_of(settings_from(ctx), url)
    before = ask(place, "/v1/config")[1]
    tell(before)
    found = answered(place, (before["reload"] or {}).get("number", 0))
    if not found["taken"]:
        raise OperatorError(f"the worker goes on as before: {found['said']}")
    click.echo(found["said"])


def tell(worker: dict[str, Any]) -> None:
    """Send the signal."""
    if worker["host"] != socket.gethostname():
        raise OperatorError(
            f"the worker is on {worker['host']}: run this there, or send SIGHUP to process {worker['pid']}"
        )
    try:
        os.kill(worker["pid"], signal.SIGHUP)
    except ProcessLookupError:
        raise OperatorError(
            f"there is no process {worker['pid']} here: is the worker in a container? Tell it there"
        ) from None
    except PermissionError:
        raise OperatorError(f"process {worker['pid']} is another user's: run this as that user, or as root") from None


def answered(place: Place, number: int) -> dict[str, Any]:
    """What came of it, once it is later than reload ``number``."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        last: dict[str, Any] | None = ask(place, "/v1/config")[1]["reload"]
        if last is not None and last["number"] > number:
            return last
        time.sleep(LOOK_S)
    raise OperatorError(f"the worker has not answered in {WAIT_S:g} s: its log tells")
