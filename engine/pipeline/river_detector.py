"""Another detector for the same replay: any anomaly pipeline of river, over closed windows of each sender.

A window (`river.window_s`) of a sender closes at its first event behind it. Its messages and hour of day are scored, then
learned; a score of `river.score` and more, on a window with more messages than the sender's mean so far, throttles it to that
mean for `TERM_WINDOWS` windows. So a burst is answered only when its window is over. Retries are no demand here either.

For replays alone (`replay`, `compare`, `make evaluate`): its models are no rows of a changelog, so no worker runs it. At most
`river.keys` senders a partition are watched, later ones never; cost: microseconds to a tenth of a millisecond a closed window
and about a kilobyte to some tens a sender, by the pipeline.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from river import anomaly

from engine.config.options import RiverOptions
from engine.decisions.compose import Composer
from engine.detector.throttle import Policy
from engine.state.partition import Partition
from topics.columns.scan import DEFERRED, EventColumns
from topics.decisions import VOLUME, Decision, Source
from topics.errors import OperatorError
from topics.networks import network_text

HOUR_MS = 3_600_000
TERM_WINDOWS = 6
GRACE_WINDOWS = 8
CAPACITY = 1024  # of the table that stays empty

Pipeline = Any  # river's pipelines share no type


def gaussian() -> Pipeline:
    """The default: how far a window's messages lie in the tail of a normal distribution of their logarithms."""
    return anomaly.GaussianScorer(grace_period=GRACE_WINDOWS)  # type: ignore[no-untyped-call]


def half_space_trees() -> Pipeline:
    """Streaming half-space trees on logarithms within 0 to 10."""
    return anomaly.HalfSpaceTrees(
        n_trees=10, height=6, window_size=32, limits={"messages": (0, 10), "hour": (0, 24)}, seed=1
    )


PIPELINES: dict[str, Callable[[], Pipeline]] = {"gaussian": gaussian, "half-space-trees": half_space_trees}


def factory_of(name: str) -> Callable[[], Pipeline]:
    """One of `PIPELINES`, or what ``module:callable`` names. OperatorError if there is no such thing."""
    if name in PIPELINES:
        return PIPELINES[name]
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise OperatorError(
            f"river.pipeline = {name!r}: {error}: give {', '.join(PIPELINES)} or module:callable, which makes a pipeline"
        ) from error
    if not callable(found):
        raise OperatorError(f"river.pipeline = {name!r} is no callable: give one that makes a pipeline")
    return found  # type: ignore[no-any-return]


FOUND = np.dtype(
    [
        ("event", "i8"),  # its number in the block
        ("key", "u8"),
        ("offset", "i8"),
        ("issued_ms", "i8"),
        ("until_ms", "i8"),
        ("rate_per_h", "f8"),
        ("score", "f8"),
        ("messages", "f8"),  # of the window
        ("mean", "f8"),  # of a window before it
    ]
)


@dataclass(slots=True)
class Watched:
    """A sender: its pipeline, its open window, its windows so far."""

    model: Pipeline
    window: int
    messages: int = 0
    closed: int = 0
    mean: float = 0.0

    def close(self, hour: int) -> float:
        """Score the open window, then learn it; minus infinity for one with no more messages than the mean before it."""
        features, amount = {"messages": math.log1p(self.messages), "hour": hour}, math.log1p(self.messages)
        known = (features, amount) if self.model._supervised else (features,)
        score = float(self.model.score_one(*known))
        self.model.learn_one(*known)
        score = score if self.closed and self.messages > self.mean else -math.inf
        self.closed += 1
        self.mean += (self.messages - self.mean) / self.closed
        return score


class WindowPartition(Partition):
    """A partition whose verdicts (FOUND[]) are a pipeline's. The rows of the model stay empty."""

    def __init__(self, policy: Policy, options: RiverOptions) -> None:
        super().__init__(policy, CAPACITY)
        self._make = factory_of(options.pipeline)
        self._options = options
        self._senders: dict[int, Watched] = {}

    def apply(self, columns: EventColumns, first: int, last: int) -> npt.NDArray[Any]:
        """Apply events ``first`` to ``last`` in order; what was found in the windows that they closed."""
        return np.array([row for i in range(first, last) for row in self._event(columns, i)], FOUND)

    def _event(self, columns: EventColumns, i: int) -> Iterator[tuple[float, ...]]:
        key, ts_ms = int(columns.key[i]), int(columns.ts_ms[i])
        if columns.outcome[i] == DEFERRED:
            return
        length_ms = self._options.window_s * 1000
        window, sender = ts_ms // length_ms, self._senders.get(key)
        if sender is None:
            if len(self._senders) >= self._options.keys:
                self.state.site["untracked"] += 1
                return
            sender = self._senders[key] = Watched(self._make(), window)
        if window > sender.window:
            messages, mean = sender.messages, sender.mean
            score = sender.close(sender.window * length_ms // HOUR_MS % 24)
            sender.window, sender.messages = window, 0
            if score >= self._options.score:
                rate_per_h = mean * HOUR_MS / length_ms
                until_ms = ts_ms + TERM_WINDOWS * length_ms
                yield i, key, int(columns.offset[i]), ts_ms, until_ms, rate_per_h, score, messages, mean
        sender.messages += int(columns.messages[i])


@dataclass(frozen=True, slots=True)
class WindowComposer:
    """Makes decisions of FOUND rows; what ``own`` is for the engine's."""

    own: Composer
    pipeline: str

    @property
    def config(self) -> str:
        """The hash that names the configuration."""
        return self.own.config

    def decision(self, found: Any, partition: int) -> Decision:
        """The decision for one row."""
        network, issued_ms = network_text(int(found["key"])), int(found["issued_ms"])
        rate_per_min = round(float(found["rate_per_h"]) / 60, 6)
        figures = {name: round(float(found[name]), 3) for name in ("score", "messages", "mean")}
        return Decision(
            network=network,
            verdict=self.own.shadow.verdict(network, VOLUME),
            issued=issued_ms,
            until=int(found["until_ms"]),
            rate_per_min=rate_per_min,
            burst=max(1.0, round(float(found["rate_per_h"]), 3)),
            reason=VOLUME,
            reply=self.own.reply.compose(network, VOLUME, issued_ms, max(rate_per_min, 1e-6)),
            evidence=figures,
            source=Source(self.own.topic, partition, int(found["offset"])),
            model=f"river/{self.pipeline}",
            config=self.own.config,
        )
