"""The machine and the versions that a result was measured with. No host name, no path, no user."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from engine.broker.jars import KAFKA_VERSION
from engine.broker.java import java_executable

PACKAGES = ("aiokafka", "faust-streaming", "numba", "numpy", "cramjam", "orjson", "river", "uvloop")


def machine_record() -> dict[str, Any]:
    """Return CPU, memory, kernel, versions, commit, time (UTC) and load (above 0.3 others used the machine)."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "java": _java_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _commit() -> str:
    """Return the commit, with a plus if the tree differs from it; "unknown" outside of a clone."""
    folder = Path(__file__).parent
    try:
        head, changes = (
            subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changes else "")


def _cpu_model() -> str:
    """Return the model that Linux reports, the architecture if it reports none."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _java_version() -> str:
    release = (java_executable().parents[1] / "release").read_text(encoding="utf-8")
    versions = [line.partition("=")[2] for line in release.splitlines() if line.startswith("JAVA_VERSION=")]
    return versions[0].strip('"') if versions else "unknown"
