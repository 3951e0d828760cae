"""A server that insists on its own paths and users: it sees them in a mount namespace, the machine stays as it is."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.system.mta.packages import need_root


def users(folder: Path, ids: Mapping[str, int]) -> dict[str, Path]:
    """Files with these users and groups besides the machine's; where each is to be seen."""
    for name in ("passwd", "group"):
        rest = "{id}::/nonexistent:/bin/false" if name == "passwd" else ""
        more = "".join(f"{user}:x:{number}:{rest.format(id=number)}\n" for user, number in ids.items())
        (folder / name).write_text(Path("/etc", name).read_text() + more)
    return {f"/etc/{name}": folder / name for name in ("passwd", "group")}


def mounted(name: str, seen: Mapping[str, Path]) -> list[str]:
    """What a command begins with to see each path as another. Skips the test if that is not allowed here."""
    need_root(name)
    bound = " && ".join(f"mount --bind {there} {path}" for path, there in seen.items())
    prefix = ["unshare", "--mount", "sh", "-c", f'{bound} && exec "$@"', "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"{name} is not there to test with: mounts are not allowed")
    return prefix
