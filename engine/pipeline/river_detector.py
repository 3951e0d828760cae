"""A detector for comparisons: an anomaly pipeline of river over the closed windows of each sender.

A sender's window (`river.window_s`) closes at the sender's first event after it. The pipeline scores its messages and hour of
day, then learns them. A score of at least `river.score`, in a window with more messages than the sender's mean, throttles the
sender to that mean for `TERM_WINDOWS` windows. So a throttle comes only after the burst's window. Deferred events aren't
counted.

It runs in replays only (`replay`, `compare`, `make evaluate`), because its models aren't rows of a changelog. It tracks at
most `river.keys` senders per partition and ignores later ones. Cost, by pipeline: 1 to 100 microseconds per closed window, and
1 to some tens of kB per sender.
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
CAPACITY = 1024  # rows of the detector's own table, which stays empty

Pipeline = Any  # river's pipelines have no common type


def gaussian() -> Pipeline:
    """Return the default: the tail probability of a window's messages in a normal distribution of their logarithms."""
    return anomaly.GaussianScorer(grace_period=GRACE_WINDOWS)  # type: ignore[no-untyped-call]


def half_space_trees() -> Pipeline:
    """Return streaming half-space trees on logarithms from 0 to 10."""
    return anomaly.HalfSpaceTrees(
        n_trees=10, height=6, window_size=32, limits={"messages": (0, 10), "hour": (0, 24)}, seed=1
    )


PIPELINES: dict[str, Callable[[], Pipeline]] = {"gaussian": gaussian, "half-space-trees": half_space_trees}


def factory_of(name: str) -> Callable[[], Pipeline]:
    """Return one of `PIPELINES`, or the callable that ``module:callable`` names. Raise OperatorError if there is none."""
    if name in PIPELINES:
        return PIPELINES[name]
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise OperatorError(
            f"river.pipeline = {name!r}: {error}: give {', '.join(PIPELINES)} or module:callable that returns a pipeline"
        ) from error
    if not callable(factory):
        raise OperatorError(f"river.pipeline = {name!r} isn't callable: give a callable that returns a pipeline")
    return factory  # type: ignore[no-any-return]


WINDOW_VERDICT = np.dtype(
    [
        ("event", "i8"),  # its number in the block
        ("key", "u8"),
        ("offset", "i8"),
        ("issued_ms", "i8"),
        ("until_ms", "i8"),
        ("rate_per_h", "f8"),
        ("score", "f8"),
        ("messages", "f8"),  # of the window
        ("mean", "f8"),  # messages per earlier window
    ]
)


@dataclass(slots=True)
class SenderWindows:
    """A sender's pipeline and windows."""

    model: Pipeline
    window: int  # number of the open one
    messages: int = 0  # in the open one
    closed: int = 0  # number of closed ones
    mean: float = 0.0  # messages per closed one

    def close(self, hour: int) -> float:
        """Score the open window, then learn it. The score of a window with no more messages than the mean is minus infinity."""
        features, amount = {"messages": math.log1p(self.messages), "hour": hour}, math.log1p(self.messages)
        known = (features, amount) if self.model._supervised else (features,)
        score = float(self.model.score_one(*known))
        self.model.learn_one(*known)
        score = score if self.closed and self.messages > self.mean else -math.inf
        self.closed += 1
        self.mean += (self.messages - self.mean) / self.closed
        return score


class WindowPartition(Partition):
    """A partition whose verdicts (WINDOW_VERDICT[]) are a pipeline's. Its own table stays empty."""

    def __init__(self, policy: Policy, options: RiverOptions) -> None:
        super().__init__(policy, CAPACITY)
        self._factory = factory_of(options.pipeline)
        self._options = options
        self._senders: dict[int, SenderWindows] = {}

    def apply(self, columns: EventColumns, first: int, last: int) -> npt.NDArray[Any]:
        """Apply events ``first`` to ``last`` in order and return the verdicts on the windows that they closed."""
        return np.array([row for i in range(first, last) for row in self._event(columns, i)], WINDOW_VERDICT)

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
            sender = self._senders[key] = SenderWindows(self._factory(), window)
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
    """Composes decisions from WINDOW_VERDICT rows."""

    own: Composer  # of the engine's decisions, for topic, configuration, reply and shadow rules
    pipeline: str  # its name

    @property
    def config(self) -> str:
        """Return "sha256:..." of the options that change decisions."""
        return self.own.config

    def decision(self, verdict: Any, partition: int) -> Decision:
        """Return the decision for one verdict."""
        network, issued_ms = network_text(int(verdict["key"])), int(verdict["issued_ms"])
        rate_per_min = round(float(verdict["rate_per_h"]) / 60, 6)
        figures = {name: round(float(verdict[name]), 3) for name in ("score", "messages", "mean")}
        return Decision(
            network=network,
            verdict=self.own.shadow.verdict(network, VOLUME),
            issued=issued_ms,
            until=int(verdict["until_ms"]),
            rate_per_min=rate_per_min,
            burst=max(1.0, round(float(verdict["rate_per_h"]), 3)),
            reason=VOLUME,
            reply=self.own.reply.compose(network, VOLUME, issued_ms, max(rate_per_min, 1e-6)),
            evidence=figures,
            source=Source(self.own.topic, partition, int(verdict["offset"])),
            model=f"river/{self.pipeline}",
            config=self.own.config,
        )
