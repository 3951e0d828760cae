"""Nothing dead in the tree: every file is reached, every name used, every option read.

What only tests use counts as dead. A name is used if the source says it, as a name or as a text (a column of a structured
array), or if it overrides what a library's class has. `ALIVE` lists the rest: what a library uses in a way that nothing
here shows. An entry that isn't needed any more fails too.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator

from vulture import Vulture
from vulture.core import Item

from engine.cli import COMMANDS
from engine.config.options import OPTIONS
from tests.tidy.tree import ROOT, Module, imports, modules, none_of, packages

CONFIDENCE_PERCENT = 60
ARGUMENT_PERCENT = 100  # what vulture gives to unused arguments; they are ruff's matter (ARG)

ENTRIES = {
    "engine.service.worker": "faust -A",
} | {command.where.partition(":")[0]: "the command line" for command in COMMANDS.values()}

ALIVE = {
    "CACHE_DIR": "Numba's configuration",
    "__getattr__": "Python asks it for a module's missing names",
    "canonical_url": "Faust's assignor hands it to all workers",
    "aa": "dnslib writes it into the packet",
    "has_next": "aiokafka's fetcher asks what it fetched",
    "rcode": "dnslib writes it into the packet",
    "_set_producer_state": "aiokafka's producer tells a batch",
    "size_in_bytes": "aiokafka's fetcher asks what it fetched",
    "spinner": "Faust's worker looks at it",
    "writeable": "NumPy's flag",
}


def is_entry(module: Module) -> bool:
    return (
        module.name in ENTRIES
        or module.path.endswith(("__init__.py", "__main__.py"))
        or 'if __name__ == "__main__"' in module.text
    )


def test_every_module_is_imported_or_is_an_entry() -> None:
    reached = {name for module in packages() for name in imports(module)}
    none_of(module.path for module in packages() if module.name not in reached and not is_entry(module))


def quoted() -> set[str]:
    """Every text in the sources that could be a name."""
    nodes = (node for module in modules() if not module.path.startswith("tests/") for node in ast.walk(module.tree))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def overrides(item: Item) -> bool:
    """Whether a base of the class around ``item`` has the name too."""
    module = next(module for module in modules() if ROOT / module.path == item.filename)
    around = [
        node.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and node.lineno <= item.first_lineno <= (node.end_lineno or 0)
    ]
    bases = getattr(importlib.import_module(module.name), around[0]).__mro__[1:] if around else ()
    return any(hasattr(base, item.name) for base in bases)


def unused() -> Iterator[Item]:
    vulture = Vulture(ignore_decorators=["@*.command", "@*.group", "@overload"])
    vulture.scavenge([str(ROOT / folder) for folder in ("topics", "engine", "benchmarks") if (ROOT / folder).exists()])
    texts = quoted()
    for item in vulture.get_unused_code(min_confidence=CONFIDENCE_PERCENT):
        ours = not item.filename.is_relative_to(ROOT / "benchmarks")  # they only count as users
        argument = item.typ == "variable" and item.confidence == ARGUMENT_PERCENT
        if ours and not argument and item.name not in texts and not overrides(item):
            yield item


def test_every_name_is_used() -> None:
    found = {item.name: f"{item.filename.relative_to(ROOT)}:{item.first_lineno}: {item.message}" for item in unused()}
    none_of(message for name, message in found.items() if name not in ALIVE)
    none_of(ALIVE.keys() - found.keys())


def test_every_option_does_something() -> None:
    source = "\n".join(module.text for module in packages() if module.name != "engine.reference.options")
    none_of(option.path for option in OPTIONS if not re.search(rf"\.{option.name}\b", source))
