"""A configuration as it holds, whoever said it: for `tidegate config` and a worker's page. Secrets are not shown."""

from __future__ import annotations

import json
from typing import Any

from engine.config.load import Settings
from engine.config.options import OPTIONS, SECTIONS

HIDDEN = "(not shown)"


def effective(settings: Settings) -> dict[str, dict[str, Any]]:
    """Values by section and name, and the relays."""
    found: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for option in OPTIONS:
        value = getattr(getattr(settings, option.section), option.name)
        found[option.section][option.name] = HIDDEN if option.rule.secret and value else value
    return {**found, "relays": {name: list(networks) for name, networks in settings.relays.items()}}


def toml_text(found: dict[str, dict[str, Any]]) -> str:
    """The same as TOML."""
    parts = []
    for section, values in found.items():
        lines = [f"{_key(name)} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
        parts.append("\n".join([f"[{section}]", *lines]))
    return "\n\n".join(parts)


def _key(name: str) -> str:
    return json.dumps(name) if "." in name else name
