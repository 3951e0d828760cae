"""The embedded broker's data folder: claimed for one broker, looked over, formatted by Kafka's own tool.

    broker.lock        who uses the folder (JSON); the lock itself is the kernel's (flock)
    broker.properties  the configuration, written at each start
    kafka/             Kafka's data
    logs/              broker.log and older ones, console.log
    tmp/               native libraries that Java unpacks; emptied at each start

The lock goes along to the broker's lifeline: when we die, the folder stays claimed until the broker is gone too.
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

from engine.broker.failure import last_word
from engine.broker.java import java_command, java_environment
from engine.broker.properties import LOG_FOLDER, NODE_ID
from topics.errors import OperatorError

LEAST_FREE_OCTETS = 128 << 20
FORMAT_TIMEOUT_S = 60.0
PROPERTIES = "broker.properties"
OTHER_FOLDER = "choose another folder (local.data_dir)"


def claim(folder: Path) -> TextIO:
    """Make the folder if need be and lock it for one broker; the open lock file, which is the lock.

    `OperatorError` when it can't be written, is in use, or has too little space."""
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
        user = _user(folder)
        by = f"process {user['pid']} (its broker: {user['bootstrap']})" if user else "another process"
        raise OperatorError(f"data folder {folder} is in use by {by}: stop that one, or {OTHER_FOLDER}") from None
    free_octets = shutil.disk_usage(folder).free
    if free_octets < LEAST_FREE_OCTETS:
        lock.close()
        needed = f"{free_octets >> 20} MB free, Kafka needs {LEAST_FREE_OCTETS >> 20} MB to start"
        raise OperatorError(f"data folder {folder} has {needed}: free some, or {OTHER_FOLDER}")
    for left in (folder / "tmp").iterdir():
        left.unlink()
    return lock


def write_properties(folder: Path, text: str) -> None:
    """Write the broker's properties file."""
    try:
        (folder / PROPERTIES).write_text(text)
    except OSError as error:
        raise OperatorError(f"data folder {folder} can't be written ({error.strerror}): {OTHER_FOLDER}") from error


def sign(lock: TextIO, bootstrap: str) -> None:
    """Write into the lock file who holds it and where its broker listens."""
    lock.seek(0)
    lock.truncate()
    lock.write(json.dumps({"pid": os.getpid(), "bootstrap": bootstrap}) + "\n")
    lock.flush()


def bootstrap_of(folder: Path) -> str | None:
    """Where the broker that uses the data folder listens (host:port); None when none runs there."""
    try:
        with (folder / "broker.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        user = _user(folder)
        return user["bootstrap"] if user else None
    except OSError:
        pass
    return None


def _user(folder: Path) -> dict[str, Any] | None:
    try:
        signed: dict[str, Any] = json.loads((folder / "broker.lock").read_text())
    except ValueError:  # claimed and not yet signed
        return None
    return signed


def format_once(folder: Path, class_path: str, flags: list[str]) -> None:
    """Format the data folder if it is new; `OperatorError` when it holds something that isn't ours to use."""
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
        said = done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        raise OperatorError(f"formatting {data} took more than {FORMAT_TIMEOUT_S:.0f} s: is its disk well?") from None
    if done.returncode:
        raise OperatorError(f"data folder {folder} can't be formatted: {last_word(said.splitlines())}")


def _check_format(folder: Path, text: str) -> None:
    """Whether the data is of this format and this node."""
    meta = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    wanted = {"version": "1", "node.id": str(NODE_ID)}
    other = [f"{name}={meta.get(name, 'missing')}" for name, value in wanted.items() if meta.get(name) != value]
    if other:
        reason = f"{folder / LOG_FOLDER} was written by another kind of broker ({', '.join(other)} in meta.properties)"
        raise OperatorError(f"{reason}: {OTHER_FOLDER}")
