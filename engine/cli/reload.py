"""`tidegate reload`: make a worker reload its configuration."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any

import click

from engine.cli.options import settings_from, url_option
from engine.web.client import WorkerAddress, get_json, worker_address
from topics.errors import OperatorError

WAIT_S = 30.0
POLL_S = 0.1


@click.command(epilog="Example:  tidegate reload")
@url_option
@click.pass_context
def reload(ctx: click.Context, url: str | None) -> None:
    """Make the worker on this machine reload its configuration: thresholds, replies, relays. State is kept.

    The local configuration is checked first. The worker applies all of it between two blocks, or refuses all of it with the
    reason (exit status 2). The request is a SIGHUP, so run this as the worker's user or root; `systemctl reload` and
    `kill -HUP` do the same.
    """
    address = worker_address(settings_from(ctx), url)
    before = get_json(address, "/v1/config")[1]
    send_signal(before)
    outcome = wait_for_reload(address, (before["reload"] or {}).get("number", 0))
    if not outcome["applied"]:
        raise OperatorError(f"the worker keeps its configuration: {outcome['text']}")
    click.echo(outcome["text"])


def send_signal(worker: dict[str, Any]) -> None:
    """Send SIGHUP to the worker. Raise OperatorError if it isn't on this machine or belongs to another user."""
    if worker["host"] != socket.gethostname():
        raise OperatorError(
            f"the worker is on {worker['host']}: run this there, or send SIGHUP to process {worker['pid']}"
        )
    try:
        os.kill(worker["pid"], signal.SIGHUP)
    except ProcessLookupError:
        raise OperatorError(
            f"there is no process {worker['pid']} here: if the worker runs in a container, send SIGHUP there"
        ) from None
    except PermissionError:
        raise OperatorError(f"process {worker['pid']} is another user's: run this as that user, or as root") from None


def wait_for_reload(address: WorkerAddress, number: int) -> dict[str, Any]:
    """Return the outcome of the first reload after `number`. Raise OperatorError after `WAIT_S`."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        last: dict[str, Any] | None = get_json(address, "/v1/config")[1]["reload"]
        if last is not None and last["number"] > number:
            return last
        time.sleep(POLL_S)
    raise OperatorError(f"the worker has not reloaded within {WAIT_S:g} s: see its log")
