"""The project's own files as the tidy tests see them: what Git tracks, or would if it were added; Python parsed once."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNTRACKED_FOLDERS = frozenset({".git", ".venv", ".cache", "__pycache__", "dist"})


class Module(NamedTuple):
    """A Python file. ``name``: dotted, a package's without ``__init__``; ``path``: from the root, with slashes."""

    name: str
    path: str
    text: str
    tree: ast.Module


class Function(NamedTuple):
    """A function or method. ``where``: path and line."""

    where: str
    node: ast.FunctionDef | ast.AsyncFunctionDef

    @property
    def lines(self) -> int:
        """From ``def`` to its last line."""
        return (self.node.end_lineno or self.node.lineno) - self.node.lineno + 1

    @property
    def decorators(self) -> set[str]:
        """Names of its decorators."""
        return {node.id for node in self.node.decorator_list if isinstance(node, ast.Name)}


@cache
def files() -> tuple[str, ...]:
    """Every file of the project, from the root, with slashes."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):  # a clone without Git, or an unpacked archive
        listed = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*")]
    return tuple(
        sorted(name for name in listed if (ROOT / name).is_file() and not UNTRACKED_FOLDERS & set(name.split("/")))
    )


def texts() -> Iterator[tuple[str, str]]:
    """Every text file with its content."""
    for name in files():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content[:8192]:
            yield name, content.decode("utf-8", errors="replace")


@cache
def modules() -> tuple[Module, ...]:
    """Every Python file."""
    return tuple(_module(name) for name in files() if name.endswith(".py"))


def _module(path: str) -> Module:
    text = (ROOT / path).read_text(encoding="utf-8")
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return Module(name, path, text, ast.parse(text, path))


def packages() -> tuple[Module, ...]:
    """The files of `topics` and `engine` alone."""
    return tuple(module for module in modules() if module.name.split(".")[0] in ("topics", "engine"))


def functions(chosen: tuple[Module, ...]) -> Iterator[Function]:
    """Every function in them, inner ones too."""
    for module in chosen:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Function(f"{module.path}:{node.lineno}", node)


@cache
def imports(module: Module) -> frozenset[str]:
    """All that a module imports, dotted, wherever in it: modules within a package, and ``module.name`` for every name taken."""
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module.path}:{node.lineno}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {node.module} if node.module and "." in node.module else set()
    return frozenset(found)


def none_of(found: Iterable[str]) -> None:
    """Fail with all that was found, a line each."""
    lines = sorted(found)
    if lines:
        pytest.fail("\n".join(["found what should not be there:", *lines]), pytrace=False)
