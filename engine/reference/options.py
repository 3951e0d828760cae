"""The options' documentation, written from their declarations: a commented example file and a table.

``make docs`` (``python -m engine.reference.options deploy``) writes both into `deploy/`, and the metrics' beside them; a test
holds them against the declarations.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from engine.config.option import Option
from engine.config.options import OPTIONS, SECTIONS
from engine.config.relays import EXAMPLE as RELAYS

EXAMPLE, TABLE = "tidegate.example.toml", "CONFIGURATION.md"

EXAMPLE_HEAD = """\
# Every option at its default. Copy this file to tidegate.toml and uncomment what you change.
# The environment wins over the file (TIDEGATE_KAFKA_BOOTSTRAP and so on), the command line over both.
# Written by `make docs`; ranges and reasons are in CONFIGURATION.md.
"""

TABLE_HEAD = """\
# Configuration

Written by `make docs` from the declarations in `engine/config/options.py`.

An option is taken from the command line, else from the environment variable `TIDEGATE_<SECTION>_<OPTION>`, else from one
TOML file, else it has its default. The file is the one that `--config` names, else `$TIDEGATE_CONFIG`, else
`tidegate.toml` in the working directory if it is there. `tidegate.example.toml` beside this page holds all options. An
unknown name, a wrong type or a value out of range ends the command with one line and exit status 2; `tidegate check`
checks without starting anything.

Two more variables: `TIDEGATE_CONFIG` (above), and `TIDEGATE_CACHE_DIR`, the folder for what can be made again (compiled
kernels, Kafka's jars) and for the embedded broker; default `~/.cache/tidegate`.

Options marked * change decisions: their hash stands in every decision as `config`. Those marked † are taken by a running worker
when it is told to read its configuration again (`tidegate reload`, or SIGHUP); others need a restart.
"""

EXAMPLE_RELAYS = f"""\
# Relays that send for many: each is one pool under its name. name = networks
[relays]
# esp = {RELAYS}
"""

TABLE_RELAYS = f"""\
## [relays] * †

Relays that send for many, such as a mail service's: name = networks, in the file alone. For example:

    [relays]
    esp = {RELAYS}

A relay is one pool under its name, whatever /24 and /16 its addresses lie in. Its new addresses make no crowd of newcomers
and don't teach the site what newcomers do; the rules for crowds never touch them. What holds for every single sender holds for
them: each address has its own history and its own limits. An IPv6 network is a /64 or larger; two relays share no address.
"""


def example_text() -> str:
    """The example file: every section, every option commented out at its default."""
    parts = [EXAMPLE_HEAD]
    for section, declared in SECTIONS.items():
        lines = [f"# {declared.__doc__}", f"[{section}]"]
        for option in _of(section):
            lines += [f"# {option.rule.text}", f"# {option.name} = {_literal(option)}"]
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, EXAMPLE_RELAYS])


def table_text() -> str:
    """The page with one table a section."""
    parts = [TABLE_HEAD]
    for section, declared in SECTIONS.items():
        lines = [
            f"## [{section}]",
            "",
            str(declared.__doc__),
            "",
            "| option | default | allowed | meaning |",
            "|---|---|---|---|",
        ]
        for option in _of(section):
            mark = (" *" if option.rule.decides else "") + (" †" if option.rule.reloads else "")
            lines.append(f"| `{option.name}`{mark} | `{_literal(option)}` | {_allowed(option)} | {option.rule.text} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, TABLE_RELAYS])


def _of(section: str) -> list[Option]:
    return [option for option in OPTIONS if option.section == section]


def _literal(option: Option) -> str:
    return json.dumps(option.default) if option.kind is str else f"{option.default:_}"


def _allowed(option: Option) -> str:
    rule = option.rule
    if rule.choices:
        return ", ".join(f"`{choice}`" for choice in rule.choices)
    if rule.wanted is not None:
        return rule.wanted(_unwanted(option))
    if rule.low is not None:
        kind = "whole number" if option.kind is int else "number"
        return f"{kind}, {rule.low:_} to {rule.high:_}"
    return "text"


def _unwanted(option: Option) -> int | str:
    """A value that the option's rule refuses, so that the rule says what it wants."""
    return -2 if option.kind is int else "\n"


def main() -> None:
    """Write all files into the folder that the command line names."""
    from engine.reference.metrics import FILE, metrics_text  # noqa: PLC0415 (needs the engine, which options don't)

    folder = Path(sys.argv[1])
    (folder / EXAMPLE).write_text(example_text(), encoding="utf-8")
    (folder / TABLE).write_text(table_text(), encoding="utf-8")
    (folder / FILE).write_text(metrics_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
