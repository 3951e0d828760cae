"""Declaration of an option: a field of its section's dataclass, with its documentation and its checks in the metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rule:
    """Documentation of an option and the checks of its value."""

    text: str  # documentation, in CONFIGURATION.md and the example file
    low: float | None = None  # inclusive
    high: float | None = None  # inclusive
    choices: tuple[str, ...] = ()  # all allowed values; empty: any
    validate: Callable[[Any], str] | None = None  # returns the expected form of an invalid value, "" for a valid one
    secret: bool = False  # the value is never printed
    decides: bool = False  # the value changes decisions and enters their configuration hash
    hashed_if_set: bool = False  # added later: the default leaves the hash of earlier decisions unchanged
    reloads: bool = False  # a running worker applies a changed value when it reloads its configuration


@dataclass(frozen=True, slots=True)
class Option:
    """A declared option."""

    section: str
    name: str
    kind: type  # int, float or str
    default: int | float | str
    rule: Rule

    @property
    def path(self) -> str:
        """Return section and name, such as `kafka.bootstrap`."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """Return the environment variable that sets the option."""
        return f"TIDEGATE_{self.section}_{self.name}".upper()


def option(default: T, text: str, **rule: Any) -> T:
    """Declare a dataclass field with a default and a `Rule`."""
    return field(default=default, repr=not rule.get("secret"), metadata={"rule": Rule(text, **rule)})
