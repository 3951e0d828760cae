"""Who may import whom: the map of the house, as it can be checked.

topics <- engine/detector <- engine/policy <- engine/stream, and topics <- engine/edge. The middle neither waits, opens, logs
nor reads a clock.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.tidy.tree import Module, imports, modules, none_of, packages

COMPILED = ("numba", "llvmlite", "topics.columns")
OUTSIDE = ("asyncio", "logging", "random", "secrets", "socket", "time", "uuid")

CLOCKS = ("aiokafka", "aiohttp", "asyncio", "logging", "os", "pathlib", "random", "secrets", "time", "uvloop")
EDGE_RIM_NAMES = ("closing", "delivery", "following", "keeping", "processes", "relay", "run", "servers", "spool")
EDGE_RIM = frozenset(f"engine.edge.{name}" for name in (*EDGE_RIM_NAMES, "together", "web"))


class Border(NamedTuple):
    """Modules of ``of`` import nothing of ``never``; if ``only`` is given, of this project nothing else than that."""

    of: str
    never: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    but: frozenset[str] = frozenset()


BORDERS = (
    Border("topics", never=("engine",)),
    Border("topics", never=OUTSIDE, but=frozenset({"engine.kafka.topic_admin"})),  # it asks a cluster
    Border("engine.models", only=("topics", "engine.models")),
    Border(
        "engine.models", never=OUTSIDE, but=frozenset({"engine.detector.hash_table"})
    ),  # a hash seed of its own: no state, no decision
    Border("engine.policy", only=("topics", "engine.models", "engine.policy")),
    Border("engine.policy", never=OUTSIDE),
    Border(
        "engine.imports",
        only=("topics", "topics.errors", "engine.imports"),
        but=frozenset({"engine.imports.kafka_sink"}),
    ),  # to Kafka
    Border(
        "engine.config.options",
        only=("engine.config.validators", "engine.config.option", "engine.config.alert_options"),
    ),
    Border("engine.config.alert_options", only=("engine.config.validators", "engine.config.option")),
    Border("engine.config.option", only=("engine.config.option",)),
    Border("engine.notify", never=("engine.stream", "engine.web")),
    Border(
        "engine.config.load",
        only=("engine.config.relays", "engine.config.option", "topics.errors", "engine.config.options"),
    ),
    Border("engine.config.relays", only=("topics.keys", "topics.errors", "engine.config.validators")),
    Border("engine.edge", never=("engine.models", "engine.policy", "engine.stream", *COMPILED)),
    Border(
        "engine.edge",
        only=("topics", "engine.edge", "topics.errors", "engine.metrics.exposition", "engine.config.validators"),
        but=frozenset({"engine.edge.run"}),  # takes the settings
    ),
    Border("engine.edge", never=CLOCKS, but=EDGE_RIM),
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


@pytest.mark.parametrize("border", BORDERS, ids=lambda border: f"{border.of}-{(border.only or border.never)[0]}")
def test_imports_go_one_way(border: Border) -> None:
    inside = [module for module in packages() if within(module.name, (border.of,)) and module.name not in border.but]
    none_of(f"{module.path} imports {name}" for module in inside for name in trespasses(module, border))


def test_the_wire_alone_needs_no_compiler() -> None:
    plain = [module for module in packages() if module.name.startswith("topics") and module.name.count(".") < 2]
    none_of(
        f"{module.path} imports {name}"
        for module in plain
        if module.name != "topics.columns"
        for name in imports(module)
        if within(name, COMPILED)
    )


def test_numba_is_named_in_the_kernels_folders_alone() -> None:
    folders = ("topics.columns", "engine.models", "engine.policy", "tests", "benchmarks")
    allowed = ("numba", "llvmlite")
    outside = [module for module in modules() if not within(module.name, folders)]
    none_of(f"{module.path} imports {name}" for module in outside for name in imports(module) if within(name, allowed))
