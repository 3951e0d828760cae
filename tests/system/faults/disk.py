"""A broker on a small disk of its own (a tmpfs, which only root can mount), and that disk full."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from engine.broker import EmbeddedBroker
from tests.system.faults.cluster import BROKER_SETTINGS

CHUNK = b"\1" * (1 << 16)


class Skipped(Exception):
    """A fault can't be injected here; the message says why."""


@contextlib.contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[EmbeddedBroker]:
    """Yield a running broker whose data is on a disk of its own of ``size_mb``."""
    if os.geteuid():
        raise Skipped("needs root, to mount a small disk")
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        raise Skipped(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        with EmbeddedBroker(disk / "broker", settings=BROKER_SETTINGS) as broker:
            yield broker
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Fill the disk of ``folder``; free it at the end."""
    ballast = folder.parent / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(CHUNK)
    try:
        yield
    finally:
        ballast.unlink()
