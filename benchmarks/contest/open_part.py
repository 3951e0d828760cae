"""The open load's part of a contest: for each contender its sustainable rate, latency at 70 % of it, and how it catches up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.contest import openload
from benchmarks.contest import start as starting
from benchmarks.contest.contenders import BY_NAME
from benchmarks.contest.openload import Latency, Level, Start, SteadyLoad
from benchmarks.contest.rounds import ENGINE
from benchmarks.contest.sizes import Sizes
from benchmarks.harness.errors import Broken

REGULARS = 500_000
CATCH_UP_S = 40.0
STEP = 100  # events a second: a tick's worth


@dataclass(frozen=True)
class Opened:
    """One contender's figures; ``catch_up_s``: None if it didn't within the time."""

    name: str
    levels: list[Level]
    sustainable: int
    latency: Latency | None
    catch_up_s: float | None
    complaints: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For the kept result."""
        return asdict(self) | {"levels": [level._asdict() for level in self.levels]}

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Self:
        """The same again."""
        levels = [Level(**level) for level in kept["levels"]]
        return cls(**kept | {"levels": levels, "latency": kept["latency"] and Latency(**kept["latency"])})


def rates(chosen: Sizes) -> list[int]:
    """The rising load's levels."""
    found = [chosen.first_rate]
    while found[-1] * chosen.rise <= chosen.last_rate:
        found.append(round(found[-1] * chosen.rise) // STEP * STEP)
    return found


def run(chosen: Sizes, bootstrap: str, folder: Path, say: Callable[[str], None]) -> Iterator[Opened]:
    """Each contender in turn; one that breaks down is told and left out."""
    for name in (ENGINE, *chosen.open_peers):
        try:
            start = starting.engine(folder) if name == ENGINE else starting.peer(BY_NAME[name].contender(), folder)
            yield _one(name, start, chosen, bootstrap, say)
        except Broken as error:
            if name == ENGINE:
                raise
            say(f"{name} broke down under open load: {error}")
            yield Opened(name, [], 0, None, None, [])


def _one(name: str, start: Start, chosen: Sizes, bootstrap: str, say: Callable[[str], None]) -> Opened:
    with starting.ground(bootstrap) as place:
        levels = openload.climb(start, place, rates(chosen), chosen.level_s, REGULARS)
    borne = openload.sustainable(levels)
    say(f"{name}: bears {borne:,} events/s; then {levels[-1]}")
    rate = borne or chosen.first_rate
    steady = SteadyLoad(int(rate * openload.SHARE_FOR_LATENCY) // STEP * STEP, chosen.latency_s, REGULARS)
    with starting.ground(bootstrap) as place:
        latency = openload.latency(start, place, steady)
    say(
        f"{name}: at {steady.rate:,} events/s p50 {latency.p50_ms:.1f}, p99 {latency.p99_ms:.1f} ms {latency.complaints or ''}"
    )
    backlog = SteadyLoad(int(rate * openload.SHARE_FOR_BACKLOG) // STEP * STEP, chosen.backlog_s + CATCH_UP_S, REGULARS)
    with starting.ground(bootstrap) as place:
        caught_s = openload.catch_up(start, place, backlog, chosen.backlog_s)
    say(f"{name}: has worked off {chosen.backlog_s:.0f} s of {backlog.rate:,} events/s after {caught_s} s")
    return Opened(name, levels, borne, latency, caught_s, [f"{name}: {each}" for each in latency.complaints])
