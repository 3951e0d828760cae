"""A worker beside itself, small: both sides answer right, and every rejected variant can still be had from its patch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from benchmarks import against
from tests.conftest import ROOT

REJECTED = sorted((ROOT / "benchmarks" / "rejected").glob("*.patch"))


@pytest.mark.system
@pytest.mark.timeout(200)
@pytest.mark.parametrize("load", [["--events", "40000", "--keys", "1000"], ["--rate", "2000", "--seconds", "3"]])
def test_both_sides_give_the_right_answer(load: list[str]) -> None:
    command = [sys.executable, "-m", "benchmarks.against", "--before", str(ROOT), "--rounds", "1", *load]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = orjson.loads(done.stdout.splitlines()[-1])
    wanted = against.OPEN if "--rate" in load else against.CLOSED
    assert figures.pop("answer") == "right"
    assert figures.keys() == {f"ratio_{name}" for name in wanted}
    assert min(figures.values()) > 0


def test_what_is_no_commit_is_refused_in_a_line() -> None:
    command = [sys.executable, "-m", "benchmarks.against", "--before", "no-such-commit"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("benchmark: no-such-commit is neither a folder nor of a commit")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="its base is in the repository's history")
@pytest.mark.parametrize("patch", REJECTED, ids=lambda patch: patch.stem)
def test_a_rejected_variant_is_its_base_and_a_patch(patch: Path, tmp_path: Path) -> None:
    base = patch.read_text(encoding="utf-8").splitlines()[0].removeprefix("base ")
    before, after = against.tree(base, tmp_path / "before"), against.tree(str(patch), tmp_path / "after")
    found = [path.relative_to(after) for path in sorted(after.rglob("*.py"))]
    assert any((before / path).read_bytes() != (after / path).read_bytes() for path in found)
