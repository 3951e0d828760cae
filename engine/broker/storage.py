"""The embedded broker's data folder: locked for one broker, checked, formatted by Kafka's own tool.

    broker.lock        the owner of the folder (JSON); the lock itself is the kernel's (flock)
    broker.properties  the configuration, written at each start
    kafka/             Kafka's data
    logs/              broker.log and older ones, console.log
    tmp/               native libraries that Java unpacks; emptied at each start

The broker's lifeline inherits the lock: if this process dies, the folder stays locked until the broker has ended too.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any, TextIO

from engine.broker.failure import reason_in
from engine.broker.java import java_command, java_environment
from engine.broker.properties import LOG_FOLDER, NODE_ID
from topics.errors import OperatorError

MIN_FREE_BYTES = 128 << 20
FORMAT_TIMEOUT_S = 60.0
PROPERTIES = "broker.properties"
OTHER_FOLDER = "choose another folder (local.data_dir)"


def lock_folder(folder: Path) -> TextIO:
    """Create the folder if needed and lock it for one broker. Return the open lock file, which holds the lock.

    Raise OperatorError if it can't be written, is in use, or has too little space.
    """
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        (folder / "tmp").mkdir(exist_ok=True)
        lock = (folder / "broker.lock").open("a+")
    except OSError as error:
        raise OperatorError(f"data folder {folder} can't be written ({error.strerror}): {OTHER_FOLDER}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        owner = _owner(folder)
        by = f"process {owner['pid']} (its broker: {owner['bootstrap']})" if owner else "another process"
        raise OperatorError(f"data folder {folder} is in use by {by}: stop it, or {OTHER_FOLDER}") from None
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < MIN_FREE_BYTES:
        lock.close()
        needed = f"{free_bytes >> 20} MB free, Kafka needs {MIN_FREE_BYTES >> 20} MB to start"
        raise OperatorError(f"data folder {folder} has {needed}: free some space, or {OTHER_FOLDER}")
    for leftover in (folder / "tmp").iterdir():
        leftover.unlink()
    return lock


def write_properties(folder: Path, text: str) -> None:
    """Write the broker's properties file."""
    try:
        (folder / PROPERTIES).write_text(text)
    except OSError as error:
        raise OperatorError(f"data folder {folder} can't be written ({error.strerror}): {OTHER_FOLDER}") from error


def write_owner(lock: TextIO, bootstrap: str) -> None:
    """Write this process's id and its broker's address into the lock file."""
    lock.seek(0)
    lock.truncate()
    lock.write(json.dumps({"pid": os.getpid(), "bootstrap": bootstrap}) + "\n")
    lock.flush()


def bootstrap_of(folder: Path) -> str | None:
    """Return the address (host:port) of the broker that uses the data folder, None if none runs there."""
    try:
        with (folder / "broker.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _owner(folder)
        return owner["bootstrap"] if owner else None
    except OSError:
        pass
    return None


def _owner(folder: Path) -> dict[str, Any] | None:
    try:
        owner: dict[str, Any] = json.loads((folder / "broker.lock").read_text())
    except ValueError:  # locked, but its owner isn't written yet
        return None
    return owner


def format_once(folder: Path, class_path: str, flags: list[str]) -> None:
    """Format the data folder if it is new. Raise OperatorError if it has data of another kind of broker."""
    data = folder / LOG_FOLDER
    if (data / "meta.properties").exists():
        _check_format(folder, (data / "meta.properties").read_text())
        return
    if data.exists() and any(child.is_dir() and any(child.glob("*.log")) for child in data.iterdir()):
        raise OperatorError(
            f"{data} holds data but no meta.properties, so no broker can use it: restore it, or {OTHER_FOLDER}"
        )
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    arguments = ["format", f"--cluster-id={cluster_id}", "--config", PROPERTIES, "--ignore-formatted"]
    command = java_command(class_path, flags, "kafka.tools.StorageTool", arguments)
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=java_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FORMAT_TIMEOUT_S,
            check=False,
        )
        output = done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        raise OperatorError(f"formatting {data} took more than {FORMAT_TIMEOUT_S:.0f} s: check the disk") from None
    if done.returncode:
        raise OperatorError(f"data folder {folder} can't be formatted: {reason_in(output.splitlines())}")


def _check_format(folder: Path, text: str) -> None:
    """Raise OperatorError unless the data has this format and node id."""
    meta = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    wanted = {"version": "1", "node.id": str(NODE_ID)}
    other = [f"{name}={meta.get(name, 'missing')}" for name, value in wanted.items() if meta.get(name) != value]
    if other:
        reason = f"{folder / LOG_FOLDER} was written by another kind of broker ({', '.join(other)} in meta.properties)"
        raise OperatorError(f"{reason}: {OTHER_FOLDER}")
