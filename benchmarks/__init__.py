"""Benchmarks of Tidegate. Run one with `make`, or with `python -m benchmarks.FOLDER.NAME --help`.

Compiled kernels, Kafka's jars and other contenders go to $TIDEGATE_CACHE_DIR, by default the clone's ``.cache``.
"""

import os
from pathlib import Path

os.environ.setdefault(
    "TIDEGATE_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".cache")
)  # before kernels are loaded
