"""`setup.sh` reports a missing requirement in one line before it changes anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.pace import scaled

FILES = ("setup.sh", "requirements.lock", "pyproject.toml")


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "a clone with spaces"
    folder.mkdir()
    for name in FILES:
        shutil.copy(root / name, folder)
    return folder


def run(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    command = [str(folder / "setup.sh")]
    environ = os.environ | {"PYTHON": python}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environ, cwd="/", timeout=scaled(60)
    )


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def refusal(folder: Path, python: str) -> str:
    ran = run(folder, python)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert not (folder / ".venv").exists()
    return ran.stderr


def test_old_python_is_refused(folder: Path, tmp_path: Path) -> None:
    old = program(tmp_path / "old", 'case $1 in --version) echo "Python 3.10.13" ;; *) exit 1 ;; esac')
    assert refusal(folder, old).startswith(f"setup: Python 3.11 or newer is needed, but {old} is Python 3.10.13")


def test_missing_python_is_refused(folder: Path) -> None:
    assert "no-such-python is not executable" in refusal(folder, "no-such-python")


def test_python_without_venv_is_refused(folder: Path, tmp_path: Path) -> None:
    script = 'case "$*" in *ensurepip*) exit 1 ;; --version) echo "Python 3.12.1" ;; esac'
    assert "Python 3.12.1 lacks venv or ensurepip" in refusal(folder, program(tmp_path / "bare", script))
