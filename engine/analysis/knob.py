"""The model's one knob as the options have it: whoever turns it to try something asks here. T: `engine.models.knob`."""

from __future__ import annotations

from dataclasses import replace

from engine.models.knob import percent_of, threshold_of
from engine.options import Settings


def turned(settings: Settings, threshold: float) -> Settings:
    """The same settings with the budget that leads to another T."""
    return replace(settings, model=replace(settings.model, sensitivity=as_option(threshold)[1]))


def threshold(settings: Settings) -> float:
    """T of settings, to the four digits that a budget is written with."""
    return float(f"{threshold_of(settings.model.budget_percent):.4g}")


def as_option(threshold: float) -> tuple[str, str]:
    """The option of [model] that leads to a T, by name and value, as a file or the environment says it."""
    return "sensitivity", f"{percent_of(threshold):.6g}"


def as_lines(threshold: float) -> str:
    """The same for a configuration file."""
    name, value = as_option(threshold)
    return f'[model]\n{name} = "{value}"\n'
