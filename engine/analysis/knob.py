"""The model's one knob as the options have it: whoever turns it to try something asks here.

T is what the model computes with: half of it throttles sooner, twice of it later, newcomers above all.
"""

from __future__ import annotations

from dataclasses import replace

from engine.options import Settings


def turned(settings: Settings, threshold: float) -> Settings:
    """The same settings at another T."""
    return replace(settings, model=replace(settings.model, threshold=threshold))


def as_option(threshold: float) -> tuple[str, str]:
    """The option of [model] that leads to a T, by name and value, as a file or the environment says it."""
    return "threshold", f"{threshold:g}"


def as_lines(threshold: float) -> str:
    """The same for a configuration file."""
    name, value = as_option(threshold)
    return f"[model]\n{name} = {value}\n"
