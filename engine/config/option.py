"""How an option is declared: as a field of its section's class, with what checks and explains it beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rule:
    """How an option's value is checked. ``low``, ``high``: inclusive bounds; ``choices``: all that is allowed; ``wanted``: says
    what the value should be, nothing if it is fine; ``secret``: never printed; ``decides``: changes decisions; ``later``: is
    younger than decisions that are kept, so at its default it leaves their hash as it was; ``reloads``: a running worker takes
    another value when it reads its configuration again."""

    text: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    wanted: Callable[[Any], str] | None = None
    secret: bool = False
    decides: bool = False
    later: bool = False
    reloads: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """One declared option. ``kind``: int, float or str."""

    section: str
    name: str
    kind: type
    default: int | float | str
    rule: Rule

    @property
    def path(self) -> str:
        """Section and name, as messages say them."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"TIDEGATE_{self.section}_{self.name}".upper()


def option(default: T, text: str, **rule: Any) -> T:
    """Declare a section's field with its `Rule`."""
    return field(default=default, repr=not rule.get("secret"), metadata={"rule": Rule(text, **rule)})
