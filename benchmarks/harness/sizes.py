"""A benchmark's sizes off its command line."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")


def sized(parser: argparse.ArgumentParser, arguments: list[str] | None, *, small: S, full: S) -> S:
    """The small sizes if ``--small`` is given, else the full ones, with whatever else the command line says in their place."""
    chosen = vars(parser.parse_args(arguments))
    base = small if chosen.pop("small") else full
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    given |= {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return replace(base, **given)
