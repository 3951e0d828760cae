"""Which folder may import which: the map of the house, as it can be checked.

    topics <- detector <- state <- decisions <- pipeline <- worker <- web <- service <- cli
    topics <- config, kafka <- edge, alerts, overrides, imports, demo

`topics`, `detector`, `state`, `decisions` and the edge's protocols never await, open, log or read a clock.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from engine.cli import COMMANDS
from tests.tidy.tree import Module, imports, modules, none_of, packages

COMPILED = ("numba", "llvmlite", "topics.columns")
OUTSIDE = ("asyncio", "logging", "random", "secrets", "socket", "time", "uuid")
CLOCKS = ("aiokafka", "aiohttp", "asyncio", "logging", "os", "pathlib", "random", "secrets", "time", "uvloop")
PURE = ("engine.detector", "engine.state", "engine.decisions")
EDGE_IO_NAMES = (
    "aggregate",
    "decision_feed",
    "delivery",
    "listeners",
    "opensmtpd_filter",
    "prefork",
    "run",
    "servers",
    "spool",
)
EDGE_IO = frozenset(f"engine.edge.{name}" for name in (*EDGE_IO_NAMES, "state_dir", "web"))


class Border(NamedTuple):
    """Modules of `of` import nothing in `never`; if `only` is given, they import nothing else of this project."""

    of: str
    never: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    exempt: frozenset[str] = frozenset()


BORDERS = (
    Border("topics", never=("engine",)),
    Border("topics", never=OUTSIDE, exempt=frozenset({"topics.networks"})),  # parses with inet_pton: no I/O
    Border("engine.detector", only=("topics", "engine.detector")),
    Border("engine.detector", never=OUTSIDE, exempt=frozenset({"engine.detector.hash_table"})),  # draws its hash seed
    Border("engine.state", only=("topics", "engine.detector", "engine.state")),
    Border("engine.decisions", only=("topics", "engine.detector", "engine.state", "engine.decisions")),
    Border("engine.state", never=OUTSIDE),
    Border("engine.decisions", never=OUTSIDE),
    Border("engine.imports", only=("topics", "engine.imports"), exempt=frozenset({"engine.imports.kafka_sink"})),
    Border("engine.config", only=("topics", "engine.config")),
    Border("engine.kafka", never=("engine.edge", "engine.worker", "engine.service", "engine.web", "engine.alerts")),
    Border("engine.worker", never=("engine.web", "engine.alerts", "engine.service", "engine.cli")),
    Border("engine.alerts", never=("engine.worker", "engine.web")),
    Border("engine.edge", never=(*PURE, "engine.worker", *COMPILED)),
    Border(
        "engine.edge",
        only=(
            "topics",
            "engine.config",
            "engine.edge",
            "engine.kafka.clients",
            "engine.kafka.follow",
            "engine.metrics",
        ),
    ),
    Border("engine.edge", never=CLOCKS, exempt=EDGE_IO),
    Border("engine", never=("tests", "benchmarks", "pytest", "hypothesis")),
)


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def trespasses(module: Module, border: Border) -> set[str]:
    found = {name for name in imports(module) if within(name, border.never)}
    if border.only:
        ours = {name for name in imports(module) if within(name, ("topics", "engine", "tests"))}
        found |= {name for name in ours if not within(name, border.only)}
    return found


def file_graph() -> dict[str, set[str]]:
    """Return each package module with the modules of this project that it imports."""
    names = {module.name for module in packages()}
    return {module.name: _resolved(module, names) - {module.name} for module in packages()}


def _resolved(module: Module, names: set[str]) -> set[str]:
    """Return the modules that `module` takes something from: of ``from package import module`` only the module."""
    taken = imports(module)
    found = {name if name in names else name.rpartition(".")[0] for name in taken} & names
    only_modules = {name for name in found if _only_for_modules(name, taken, names)}
    return found - only_modules


def _only_for_modules(name: str, taken: frozenset[str], names: set[str]) -> bool:
    below = [other for other in taken if other.rpartition(".")[0] == name]
    return bool(below) and all(other in names for other in below)


def folder_graph() -> dict[str, set[str]]:
    """Return each folder (`topics`, or one directly under `engine`) with the folders that its files import."""
    graph: dict[str, set[str]] = {}
    for name, targets in file_graph().items():
        graph.setdefault(_folder(name), set()).update(map(_folder, targets))
    return {name: targets - {name} for name, targets in graph.items()}


def _folder(name: str) -> str:
    return "topics" if within(name, ("topics",)) else ".".join(name.split(".")[:2])


def circles(graph: Mapping[str, set[str]]) -> Iterator[str]:
    """Return every strongly connected set of more than one node, as text (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> Iterator[str]:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                yield from visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            circle = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(circle) > 1:
                yield " <-> ".join(sorted(circle))

    for node in sorted(graph):
        if node not in index:
            yield from visit(node)


@pytest.mark.parametrize("border", BORDERS, ids=lambda border: f"{border.of}-{(border.only or border.never)[0]}")
def test_imports_point_downwards(border: Border) -> None:
    inside = [module for module in packages() if within(module.name, (border.of,)) and module.name not in border.exempt]
    none_of(f"{module.path} imports {name}" for module in inside for name in trespasses(module, border))


def test_circle_in_a_graph_is_found() -> None:
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}})) == ["b <-> c"]


def test_files_import_without_circles() -> None:
    none_of(circles(file_graph()))


def test_folders_import_without_circles() -> None:
    none_of(circles(folder_graph()))


def test_commands_do_not_import_each_other() -> None:
    commands = {command.where.partition(":")[0] for command in COMMANDS.values()}
    inside = [module for module in packages() if module.name in commands]
    none_of(
        f"{module.path} imports {name}"
        for module in inside
        for name in imports(module)
        if within(name, tuple(commands - {module.name}))
    )


def test_no_test_module_imports_another() -> None:
    tests = [module for module in modules() if module.name.startswith("tests.")]
    none_of(
        f"{module.path} imports {name}"
        for module in tests
        for name in imports(module)
        if name.startswith("tests.") and any(part.startswith("test_") for part in name.split(".")[:-1])
    )


def test_topics_without_columns_needs_no_compiler() -> None:
    plain = [module for module in packages() if module.name.startswith("topics") and module.name.count(".") < 2]
    none_of(
        f"{module.path} imports {name}"
        for module in plain
        if module.name != "topics.columns"
        for name in imports(module)
        if within(name, COMPILED)
    )


def test_numba_is_named_in_kernel_folders_only() -> None:
    folders = ("topics.columns", "engine.detector", "engine.state", "tests", "benchmarks")
    allowed = ("numba", "llvmlite")
    outside = [module for module in modules() if not within(module.name, folders)]
    none_of(f"{module.path} imports {name}" for module in outside for name in imports(module) if within(name, allowed))


def test_clients_are_those_that_create_no_topics() -> None:
    outside = [module for module in packages() if not within(module.name, ("engine.kafka",))]
    stock = {"AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaClient"}
    none_of(
        f"{module.path} imports {alias.name}: use engine.kafka.clients"
        for module in outside
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiokafka")
        for alias in node.names
        if alias.name in stock
    )
