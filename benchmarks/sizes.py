"""How large a run is, and its command line."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.results import FOLDER

CODECS = ("lz4", "none")
KEPT = FOLDER / "pipeline.ndjson"

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")


@dataclass(frozen=True)
class Sizes:
    """``events`` a case, of which Faust reads ``faust_events``; ``keys``: senders, a case for each and codec; ``rounds``;
    open load of ``rate`` events a second for ``seconds``, none at 0; ``results``: where the result is appended, if at all."""

    events: int = 6_000_000
    keys: tuple[int, ...] = (200_000, 1_000_000)
    codecs: tuple[str, ...] = CODECS
    rounds: int = 3
    faust_events: int = 150_000
    rate: int = 50_000
    seconds: float = 30.0
    results: Path | None = KEPT

    def as_dict(self) -> dict[str, Any]:
        """For the result: all but where it goes."""
        return {name: value for name, value in asdict(self).items() if name != "results"}


SMALL = Sizes(
    events=20_000, keys=(2_000,), rounds=1, faust_events=2_000, rate=5_000, seconds=2.0, results=None
)  # fmt: skip


def sizes(arguments: list[str] | None = None) -> Sizes:
    """The sizes that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/pipeline.py",
        description="The engine's worker against Kafka's consumer performance tool and a stock Faust agent.",
    )
    parser.add_argument("--small", action="store_true", help="under a minute: checks the answers only")
    parser.add_argument("--events", type=int, help="events a case")
    parser.add_argument("--keys", type=int, nargs="+", help="senders, a case for each")
    parser.add_argument("--codecs", nargs="+", choices=CODECS, help="a case for each")
    parser.add_argument("--rounds", type=int, help="how often each contender runs, in turn")
    parser.add_argument("--faust-events", type=int, help="events that stock Faust reads")
    parser.add_argument("--rate", type=int, help="events a second of the open load, in hundreds")
    parser.add_argument("--seconds", type=float, help="how long the open load lasts; 0: no latency is measured")
    parser.add_argument("--results", type=Path, help="where the result is appended, one JSON object a line")
    return sized(parser, arguments, small=SMALL, full=Sizes())


def sized(parser: argparse.ArgumentParser, arguments: list[str] | None, *, small: S, full: S) -> S:
    """The small sizes if ``--small`` is given, else the full ones, with whatever else the command line says in their place."""
    chosen = vars(parser.parse_args(arguments))
    base = small if chosen.pop("small") else full
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    given |= {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return replace(base, **given)
