"""A mount namespace for a server that needs fixed paths and users; the machine itself is unchanged."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.system.mta.packages import need_root


def users(folder: Path, ids: Mapping[str, int]) -> dict[str, Path]:
    """Write passwd and group files with additional users. Return the files by the path that they replace."""
    for name in ("passwd", "group"):
        rest = "{id}::/nonexistent:/bin/false" if name == "passwd" else ""
        added = "".join(f"{user}:x:{number}:{rest.format(id=number)}\n" for user, number in ids.items())
        (folder / name).write_text(Path("/etc", name).read_text() + added)
    return {f"/etc/{name}": folder / name for name in ("passwd", "group")}


def mounted(name: str, replaced: Mapping[str, Path]) -> list[str]:
    """Return a command prefix that mounts other files at paths. Skips the test if mounts are not allowed here."""
    need_root(name)
    bound = " && ".join(f"mount --bind {source} {path}" for path, source in replaced.items())
    prefix = ["unshare", "--mount", "sh", "-c", f'{bound} && exec "$@"', "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"{name} can't be tested: mounts are not allowed")
    return prefix
