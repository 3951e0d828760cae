"""The model's one knob as the options have it: whoever turns it to try something asks here.

The operator gives a budget; T is what the model computes with: half of it throttles sooner, twice of it later, newcomers
above all.
"""

from __future__ import annotations

from dataclasses import replace

from engine.optionrules import SENSITIVITIES
from engine.options import Settings


def turned(settings: Settings, threshold: float) -> Settings:
    """The same settings with the budget that leads to another T."""
    return replace(settings, model=replace(settings.model, sensitivity=_budget(threshold)))


def as_option(threshold: float) -> tuple[str, str]:
    """The option of [model] that leads to a T, by name and value, as a file or the environment says it."""
    return "sensitivity", _budget(threshold)


def as_lines(threshold: float) -> str:
    """The same for a configuration file."""
    name, value = as_option(threshold)
    return f'[model]\n{name} = "{value}"\n'


def _budget(threshold: float) -> str:
    """In percent of regular mail: the inverse of `engine.options.Model.threshold`."""
    return f"{SENSITIVITIES['normal'] / threshold:.6g}"
