"""All Numba flags of the project, and where compiled code is kept.

Every compiled function is decorated with `kernel` (called from Python) or `inline` (called from kernels).
Machine code is cached on disk under ``$TIDEGATE_CACHE_DIR/kernels/<digest>``. Numba keys its cache by the source file of the
function alone, so a change in an inlined callee of another file would leave stale machine code behind: the digest of all
kernel sources in the folder's name rules that out.

``_nrt`` off: without it every array that is handed on costs an atomic reference count, two thirds of the scan's time
(measured). So kernels allocate nothing; scratch memory is an argument.

Rejected: ``fastmath`` (a decision must not depend on the compiler's reordering), ``parallel`` (a partition is one thread),
ahead-of-time compilation (needs a C compiler on the user's machine).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

PROJECT = Path(__file__).resolve().parents[2]
KERNEL_FOLDERS = ("topics/columns", "engine/detector", "engine/state")


def cache_dir() -> Path:
    """The folder for everything that can be made again: compiled kernels, Kafka's jars."""
    chosen = os.environ.get("TIDEGATE_CACHE_DIR")
    return Path(chosen) if chosen else Path.home() / ".cache" / "tidegate"


def kernel_digest() -> str:
    """Short SHA-256 over every file that can hold compiled code, and the Numba version."""
    digest = hashlib.sha256(numba.__version__.encode())
    for folder in KERNEL_FOLDERS:
        for source in sorted((PROJECT / folder).glob("*.py")):
            digest.update(source.name.encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


numba.config.CACHE_DIR = str(cache_dir() / "kernels" / kernel_digest())


FLAGS = {"nogil": True, "error_model": "numpy", "_nrt": False}


def kernel(function: Function) -> Function:
    """Compile a function that Python calls: releases the GIL, cached, IEEE arithmetic, allocates nothing, raises nothing."""
    compiled: Function = numba.njit(cache=True, **FLAGS)(function)
    return compiled


def inline(function: Function) -> Function:
    """Compile a function that only kernels call; LLVM always inlines it."""
    compiled: Function = numba.njit(forceinline=True, **FLAGS)(function)
    return compiled
