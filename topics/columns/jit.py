"""All Numba flags of the project, and the cache of compiled code.

Every compiled function is decorated with `kernel` (called from Python) or `inline` (called from kernels).

Machine code is cached under ``$TIDEGATE_CACHE_DIR/kernels/<digest>``. Numba's cache keys contain only the function's own
source file, so a change of an inlined function of another file would leave stale code. The digest of all kernel sources in
the folder's name prevents that.

``_nrt`` is off, so kernels can't allocate and take scratch memory as arguments. With it every passed array costs an atomic
reference count: two thirds of the scan's time (measured).

Rejected: ``fastmath`` (decisions must not depend on the compiler's reordering), ``parallel`` (a partition is one thread),
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
    """Return the folder for compiled kernels and Kafka's jars, which can be deleted at any time."""
    chosen = os.environ.get("TIDEGATE_CACHE_DIR")
    return Path(chosen) if chosen else Path.home() / ".cache" / "tidegate"


def kernel_digest() -> str:
    """Return a short SHA-256 over the Numba version and all files that may hold compiled code."""
    digest = hashlib.sha256(numba.__version__.encode())
    for folder in KERNEL_FOLDERS:
        for source in sorted((PROJECT / folder).glob("*.py")):
            digest.update(source.name.encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


numba.config.CACHE_DIR = str(cache_dir() / "kernels" / kernel_digest())


FLAGS = {"nogil": True, "error_model": "numpy", "_nrt": False}


def kernel(function: Function) -> Function:
    """Compile a function that Python calls: cached, without GIL, with IEEE arithmetic; it can't allocate or raise."""
    compiled: Function = numba.njit(cache=True, **FLAGS)(function)
    return compiled


def inline(function: Function) -> Function:
    """Compile a function that only kernels call. LLVM always inlines it."""
    compiled: Function = numba.njit(forceinline=True, **FLAGS)(function)
    return compiled
