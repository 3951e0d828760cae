"""The declaration of faults, and the outcome of injecting one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.broker import EmbeddedBroker
from tests.system.faults.arena import Arena, Ground
from tests.system.faults.disk import Skipped, small_disk
from tests.system.faults.verdict import Verdict

Injection = Callable[[Arena, int], None]


@dataclass(frozen=True)
class Fault:
    """A fault. ``short`` and ``whole`` are repetitions, or seconds if the sentence says so; 0 leaves it out."""

    name: str
    sentence: str
    inject: Injection
    short: int
    whole: int
    ground: Ground


@dataclass(frozen=True)
class Outcome:
    """The outcome of a fault."""

    fault: Fault
    amount: int
    verdict: Verdict
    seconds: float
    notes: dict[str, Any]  # figures of this fault
    skipped: str = ""  # the reason why it was not injected


@dataclass
class Catalogue:
    """Faults in the order of their declaration."""

    faults: list[Fault] = field(default_factory=list)

    def fault(self, short: int, whole: int, ground: Ground = Ground()) -> Callable[[Injection], Injection]:  # noqa: B008
        """Declare a function as a fault, with its name and its docstring as the sentence."""

        def declared(inject: Injection) -> Injection:
            name = inject.__name__.replace("_", " ")
            sentence = " ".join((inject.__doc__ or "").split())
            self.faults.append(Fault(name, sentence, inject, short, whole, ground))
            return inject

        return declared


def inflict(fault: Fault, amount: int, broker: EmbeddedBroker, folder: Path) -> Outcome:
    """Inject a fault and judge the result. ``broker`` is used unless the fault needs one of its own."""
    begun_s = time.monotonic()
    own = folder / fault.inject.__name__
    own.mkdir()
    try:
        with contextlib.ExitStack() as stack:
            chosen = stack.enter_context(small_disk(own, fault.ground.disk_mb)) if fault.ground.disk_mb else broker
            arena = stack.enter_context(Arena(chosen, own, f"{fault.inject.__name__}-", fault.ground))
            verdict = _verdict(fault, amount, arena)
    except Skipped as reason:
        return Outcome(fault, 0, Verdict(0), 0.0, {}, str(reason))
    return Outcome(fault, amount, verdict, time.monotonic() - begun_s, arena.notes)


def _verdict(fault: Fault, amount: int, arena: Arena) -> Verdict:
    try:
        fault.inject(arena, amount)
        return arena.judge()
    except AssertionError as error:
        return Verdict(arena.source.sent, complaints=[*arena.complaints, str(error)])
