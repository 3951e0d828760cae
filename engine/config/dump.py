"""The effective configuration as data and as TOML, for `tidegate config` and a worker's page. Secrets are not shown."""

from __future__ import annotations

import json
from typing import Any

from engine.config.load import Settings
from engine.config.options import OPTIONS, SECTIONS

HIDDEN = "(not shown)"


def effective_options(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return all values by section and name, with the relays as a section of their own."""
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for option in OPTIONS:
        value = getattr(getattr(settings, option.section), option.name)
        values[option.section][option.name] = HIDDEN if option.rule.secret and value else value
    return {**values, "relays": {name: list(networks) for name, networks in settings.relays.items()}}


def toml_text(options: dict[str, dict[str, Any]]) -> str:
    """Return the result of `effective_options` as TOML."""
    parts = []
    for section, values in options.items():
        lines = [f"{_key(name)} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
        parts.append("\n".join([f"[{section}]", *lines]))
    return "\n\n".join(parts)


def _key(name: str) -> str:
    return json.dumps(name) if "." in name else name
