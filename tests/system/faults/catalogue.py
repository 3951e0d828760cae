"""How a fault is declared, and what injecting one shows."""

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
    """``inject`` does it ``short`` or ``whole`` times (or so many seconds long, as its sentence says); 0: left out."""

    name: str
    sentence: str
    inject: Injection
    short: int
    whole: int
    ground: Ground


@dataclass(frozen=True)
class Outcome:
    """What a fault showed. ``notes``: figures of its own; ``skipped``: why it wasn't injected."""

    fault: Fault
    amount: int
    verdict: Verdict
    seconds: float
    notes: dict[str, Any]
    skipped: str = ""


@dataclass
class Catalogue:
    """Faults in the order of their declaration."""

    faults: list[Fault] = field(default_factory=list)

    def fault(self, short: int, whole: int, ground: Ground = Ground()) -> Callable[[Injection], Injection]:  # noqa: B008
        """Declare a function as a fault: its name is the fault's, its docstring the sentence."""

        def declared(inject: Injection) -> Injection:
            name = inject.__name__.replace("_", " ")
            sentence = " ".join((inject.__doc__ or "").split())
            self.faults.append(Fault(name, sentence, inject, short, whole, ground))
            return inject

        return declared


def inflict(fault: Fault, amount: int, broker: EmbeddedBroker, folder: Path) -> Outcome:
    """Inject a fault and judge what is left. ``broker`` runs before and after, unless the fault needs one of its own."""
    begun_s = time.monotonic()
    place = folder / fault.inject.__name__
    place.mkdir()
    try:
        with contextlib.ExitStack() as around:
            chosen = around.enter_context(small_disk(place, fault.ground.disk_mb)) if fault.ground.disk_mb else broker
            arena = around.enter_context(Arena(chosen, place, f"{fault.inject.__name__}-", fault.ground))
            verdict = _verdict(fault, amount, arena)
    except Skipped as why:
        return Outcome(fault, 0, Verdict(0), 0.0, {}, str(why))
    return Outcome(fault, amount, verdict, time.monotonic() - begun_s, arena.notes)


def _verdict(fault: Fault, amount: int, arena: Arena) -> Verdict:
    try:
        fault.inject(arena, amount)
        return arena.judge()
    except AssertionError as error:
        return Verdict(arena.source.sent, complaints=[*arena.complaints, str(error)])
