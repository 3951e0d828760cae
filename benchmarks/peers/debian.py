"""Programs of Debian packages, unpacked into the cache folder; nothing is installed on the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.harness.errors import Broken

DOWNLOAD_S = 300


def unpacked(name: str, *packages: str) -> Path:
    """Return a folder with the newest Debian packages of these names, unpacked; `Broken` if they aren't available."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Broken(f"{name} is not available: no {program}")
    folder = Path(os.environ["TIDEGATE_CACHE_DIR"]) / "debian" / name
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "debs").mkdir(parents=True)
        run(name, ["apt-get", "download", *packages], folder / "debs")
        for package in (folder / "debs").iterdir():
            run(name, ["dpkg-deb", "--extract", str(package), str(folder / "root")], folder)
        (folder / "complete").touch()
    return folder / "root"


def run(name: str, command: list[str], folder: Path) -> None:
    """Run to the end; `Broken` with its last line if it fails or takes more than `DOWNLOAD_S`."""
    try:
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=DOWNLOAD_S)
    except subprocess.TimeoutExpired as error:
        raise Broken(f"{name} is not available: {command[0]} takes more than {DOWNLOAD_S} s") from error
    if ran.returncode:
        raise Broken(f"{name} is not available: {command[0]}: {(ran.stderr.strip().splitlines() or ['failed'])[-1]}")
