"""Words that have no place in the tree: names that say nothing, scaffolding, and traces of one machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.tidy.tree import modules, none_of, packages, texts

EMPTY_NAMES = re.compile(r"(?:^|_)(helpers?|utils?|utilities|managers?|processors?|handlers?)(?:_|$)", re.IGNORECASE)
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

SCAFFOLDING = re.compile(
    r"\b(TODO|FIXME|XXX|HACK|WIP)\b"
    r"|\b(?i:placeholders?(?!=\W)|for now(?!,? \w* ?in\b)|work in progress|not yet implemented)\b"
    r"|\b(?i:stub(?:bed)? out|quick fix|temporary hack)\b"
    r"|\b(?i:phase|step|round|stage|milestone) \d"
)
IDIOM = re.compile(  # a translated idiom: the field has a word for each of these
    r"\b(?i:said|told|anew|octets?|whoever|whomever|crowds?|laps(?:e|es|ed|ing)|leaky(?! bucket)|stamps?|moments?"
    r"|besides?|at once|for ever|by hand|held back)\b"
)
IDIOM_IN_NAMES = frozenset(
    {"said", "told", "anew", "octet", "octets", "crowd", "crowds", "lapse", "lapsed", "leaky", "stamp", "stamps"}
    | {"moment", "moments", "place", "places", "heard", "spells", "booked", "knock", "whoever"}
)
QUOTED_STANDARD = re.compile(r"\bRFC \d+")
MACHINE = re.compile(r"(?<![\w.])/(?:root|home|work|Users|tmp/w)/")
ADDRESS = re.compile(r"https?://([A-Za-z0-9.-]+)")
NOWHERE = re.compile(r"localhost|127\.0\.0\.1|(.*\.)?(example|invalid|test)|example\.(com|net|org)")

NOT_OURS = frozenset({"LICENSE", "requirements.lock", "requirements-edge.lock"})
RULES = "tests/tidy/test_words.py"
MEASURED = "benchmarks/results/"  # kept as it was printed
IDIOM_ALLOWED = frozenset({RULES})
PUBLIC_PROJECTS = frozenset(
    {
        "www.apache.org",
        "kafka.apache.org",
        "www.w3.org",  # the name space of SVG
        "archive.apache.org",
        "repo.maven.apache.org",
        "faust-streaming.github.io",
        "github.com",
        "www.postfix.org",
        "www.exim.org",
        "riverml.xyz",
        "numba.pydata.org",
        "docs.python.org",
        "www.rfc-editor.org",
        "learn.microsoft.com",
        "snap.stanford.edu",
    }
)


def named() -> Iterator[tuple[str, str]]:
    for module in modules():
        yield module.path, module.name.rpartition(".")[2]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield f"{module.path}:{node.lineno}", node.name
            elif isinstance(node, ast.arg):
                yield f"{module.path}:{node.lineno}", node.arg


def assigned() -> Iterator[tuple[str, str]]:
    """Every name that a module declares: modules, functions, classes, arguments, variables, fields and attributes."""
    yield from named()
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield f"{module.path}:{node.lineno}", node.id
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                yield f"{module.path}:{node.lineno}", node.attr


def hits(pattern: re.Pattern[str], leave_out: frozenset[str] = NOT_OURS | {RULES}) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts()
        if name not in leave_out
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line) and not name.startswith(MEASURED)
    ]


def test_names_say_what_a_thing_is() -> None:
    none_of(f"{where}: {name}" for where, name in named() if EMPTY_NAMES.search(CAMEL.sub("_", name)))


def test_no_scaffolding_is_left_standing() -> None:
    none_of(hits(SCAFFOLDING))


def test_prose_uses_the_words_of_the_field() -> None:
    none_of(line for line in hits(IDIOM, NOT_OURS | IDIOM_ALLOWED) if not QUOTED_STANDARD.search(line))


def test_names_use_the_words_of_the_field() -> None:
    found = ((where, name) for where, name in assigned() if not where.startswith("tests/tidy/"))
    none_of(
        f"{where}: {name}" for where, name in found if IDIOM_IN_NAMES & set(CAMEL.sub("_", name).lower().split("_"))
    )


def test_public_classes_have_one_name_each() -> None:
    where: dict[str, list[str]] = {}
    for module in packages():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(module.path)
    none_of(f"{name}: {', '.join(paths)}" for name, paths in where.items() if len(paths) > 1)


def test_nothing_names_a_folder_of_one_machine() -> None:
    none_of(hits(MACHINE))


def test_web_addresses_lead_to_public_projects() -> None:
    found = [
        f"{name}: {host}"
        for name, text in texts()
        if name not in NOT_OURS
        for host in ADDRESS.findall(text)
        if host not in PUBLIC_PROJECTS and not NOWHERE.fullmatch(host)
    ]
    none_of(found)
