"""What the worker's pages say, made of the engine as it stands between two blocks. Each answer's work is bounded.

A sender whose partition another worker has is asked for there (`engine.web.peer_client`); an overview has all workers' parts.
Looking through all rows for the top movers is done in a thread, at most every `MOVERS_S` and only while somebody asks; reading
a sender's past off its topic is done for one asker at a time, and kept for `PLOT_S`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from typing import Any
from urllib.parse import quote

from engine.alerts.alert_state import Covers
from engine.alerts.conditions import Condition, Limits, Sight, conditions
from engine.analysis import plot
from engine.analysis.explanation import explain
from engine.config.dump import effective
from engine.config.validators import listed
from engine.detector.constants import HOUR_MS
from engine.metrics.exposition import Histogram
from engine.state.top_senders import Mover, movers
from engine.web.decision_log import Board, Held
from engine.web.health_checks import complaints_of
from engine.web.history import past_of, timeline_of
from engine.web.peer_client import PICTURE_S, Fleet, Unanswered
from engine.web.peers import numbered
from engine.web.rate_history import Pulse
from engine.worker.apply import Engine
from engine.worker.reload import Reloader
from engine.worker.shard import Shard
from engine.worker.status import EndOffset, status_of
from topics.decisions import SHADOW, Decision
from topics.errors import OperatorError
from topics.keys import IPV4_TAG, key_of, key_text, network_text
from topics.overrides import Override, Said
from topics.partitioner import partition_of
from topics.words import in_words

MOVERS_S = 5.0
PLOT_S = 15.0
MOST_PLOTS = 32
MOST_MOVERS = 15
SHOWN, MOST_SHOWN = 50, 500
COUNT_S = 2.0


class Views:
    """One worker, as its pages see it."""

    def __init__(self, reloader: Reloader, engine: Engine, end_offset: EndOffset, fleet: Fleet) -> None:
        settings = reloader.settings
        watch = listed(settings.notify.watch)
        self.board = Board(settings.topics.prefix, settings.kafka.client_options(), watch)
        self.pulse = Pulse(engine)
        self.outcomes: Mapping[tuple[str, str], int] = {}
        self._reloader, self._settings = reloader, settings
        self._engine, self._end_offset, self._fleet = engine, end_offset, fleet
        self._movers: tuple[float, list[dict[str, Any]]] = (0.0, [])
        self._live: tuple[float, int, int] = (0.0, 0, 0)
        self._looking, self._reading = asyncio.Lock(), asyncio.Lock()
        self._plots: dict[int, tuple[float, str]] = {}

    @property
    def latency(self) -> Histogram:
        """Of decisions."""
        return self._engine.flow.latency

    def status(self) -> dict[str, Any]:
        """As `engine.worker.status` makes it."""
        return status_of(self._engine, self._end_offset)

    def config(self) -> dict[str, Any]:
        """The configuration in force, and what came of the last reload."""
        last = self._reloader.last
        return {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "config": self._engine.composer.config,
            "options": effective(self._reloader.settings),
            "reload": last and asdict(last),
        }

    def complaints(self) -> list[str]:
        """What is not well, a sentence each."""
        return complaints_of(self.status())

    def look(self) -> tuple[list[Condition], Covers]:
        """What an operator may want to be told of, and of which conditions this worker would know."""
        options, board, status = self._settings.notify, self.board, self.status()
        limits = Limits(options.lag_s, options.budget_percent / 100)
        if not board.caught_up:
            return list(conditions(status, {}, {}, limits)), Sight(status["partitions"], (), lambda _: False).covers
        found = conditions(status, self._silent(), board.watched(int(time.time() * 1000)), limits)
        return list(found), Sight(status["partitions"], board.beats, board.watches).covers

    async def part(self) -> dict[str, Any]:
        """What this worker has to say in an overview of all of them."""
        status = self.status()
        return {
            "worker": self._fleet.own.name,
            "status": status,
            "complaints": complaints_of(status),
            "pulse": [*self.pulse.samples, self.pulse.now()],
            "movers": await self.movers(),
        }

    async def overview(self) -> dict[str, Any]:
        """All that the first page shows: this worker's part, those of the others or why not, and the site's decisions."""
        part, parts, unowned = await self.part(), await self._fleet.parts(), self._fleet.unowned()
        live, shadows = self._live_counts()
        return {
            **part,
            "others": parts.others,
            "missing": [
                *parts.missing,
                *([f"not shown: {numbered(unowned)}, which no worker has now"] if unowned else []),
            ],
            "partitions": self._settings.topics.partitions,
            "live": live,
            "shadows": shadows,
            "caught_up": self.board.caught_up,
            "decisions": self.decisions("", SHOWN),
            "edges": {"heard": sum(1 for at_ms in self.board.beats.values() if at_ms), "silent": self._silent()},
        }

    def decisions(self, wanted: str, most: int) -> list[dict[str, Any]]:
        """Throttles in force, those in shadow among them, the one said last first; as `Board.live` chooses by ``wanted``."""
        live = self.board.live(int(time.time() * 1000), wanted.strip().lower())
        return [_told(found) for found in islice(live, min(most, MOST_SHOWN))]

    def overrides(self) -> dict[str, Any]:
        """Overrides in force, and what was said of overrides, the last first."""
        board = self.board
        return {
            "overrides": [_said(found) for found in islice(reversed(board.overrides.values()), MOST_SHOWN)],
            "history": [_said(found) for found in islice(reversed(board.said), MOST_SHOWN)],
        }

    async def movers(self) -> list[dict[str, Any]]:
        """Those whose last hour is the furthest above their own most, over this worker's partitions."""
        async with self._looking:
            if time.monotonic() - self._movers[0] > MOVERS_S:
                partitions = [shard.partition for shard in self._engine.shards]
                looked = await asyncio.to_thread(lambda: [movers(one, MOST_MOVERS) for one in partitions])
                found = sorted((one for part in looked for one in part), key=lambda one: one.expected - one.messages)
                self._movers = (time.monotonic(), [self._moved(one) for one in found[:MOST_MOVERS]])
        return self._movers[1]

    async def sender(self, address: str, *, asked_by_peer: bool) -> dict[str, Any]:
        """Why it is throttled or not, as `tidegate explain` has it, with each decision in words; by whoever has its partition,
        or if another worker asks by this one alone. `OperatorError`."""
        key = _key(address)
        shard = self._shard(key)
        if shard is None:
            with self._elsewhere(key, asked_by_peer=asked_by_peer) as path:
                return await self._fleet.ask_object(self._number(key), path)
        found = explain(shard.partition, key, _now_ms(shard), self._decisions(key), self._engine.composer.config)
        return {
            **found.as_json(),
            "address": key_text(key).removesuffix("/64"),
            "partition": shard.partition.number,
            "worker": self._fleet.own.name,
            "told": [
                {"issued": made.issued, "verdict": made.verdict, "words": in_words(made)} for made in found.decisions
            ],
        }

    async def plot(self, address: str, *, asked_by_peer: bool) -> str:
        """The last day's picture as SVG; by whom: as `sender`. `OperatorError`."""
        key = _key(address)
        shard = self._shard(key)
        if shard is None:
            with self._elsewhere(key, asked_by_peer=asked_by_peer) as path:
                return (await self._fleet.ask(self._number(key), f"{path}/plot.svg", PICTURE_S)).decode(
                    errors="replace"
                )
        async with self._reading:
            made_s, svg = self._plots.get(key, (0.0, ""))
            if time.monotonic() - made_s > PLOT_S:
                svg = await self._draw(shard, key)
                while len(self._plots) >= MOST_PLOTS:
                    del self._plots[next(iter(self._plots))]
                self._plots[key] = (time.monotonic(), svg)
        return svg

    async def _draw(self, shard: Shard, key: int) -> str:
        partition, now_ms = shard.partition, _now_ms(shard)
        past = await past_of(self._settings, partition.number, key, now_ms)
        if not len(past.ts_ms):
            hours = (now_ms - past.since_ms) / HOUR_MS
            raise OperatorError(
                f"{network_text(key)} has sent nothing in the {hours:,.1f} hours that the page looks back"
            )
        timeline = await asyncio.to_thread(timeline_of, partition, key, past, self._decisions(key), now_ms)
        frame = plot.frame_of(timeline, max(past.since_ms, int(past.ts_ms[0]) - HOUR_MS), now_ms)
        return await asyncio.to_thread(plot.svg, timeline, timeline.telling_scale(), frame)

    def _number(self, key: int) -> int:
        return partition_of(key_text(key).encode(), self._settings.topics.partitions)

    def _shard(self, key: int) -> Shard | None:
        """That of a sender's partition; None if it isn't here."""
        number = self._number(key)
        return next((shard for shard in self._engine.shards if shard.partition.number == number), None)

    @contextmanager
    def _elsewhere(self, key: int, *, asked_by_peer: bool) -> Iterator[str]:
        """Where to ask another worker for a sender whose partition isn't here. `OperatorError` if nobody may be asked, or who
        was asked has not answered."""
        number, address = self._number(key), key_text(key).removesuffix("/64")
        belongs = f"{network_text(key)} belongs to partition {number}"
        restoring = self._engine.shards.restoring().get(number)
        if restoring is not None:
            share = restoring.timing.restored_share
            raise OperatorError(
                f"{belongs}, whose state is being restored, {share:.0%} of it is read: ask again in a moment"
            )
        if asked_by_peer:
            raise OperatorError(f"{belongs}, which worker {self._fleet.own.name} hasn't got: ask again in a moment")
        try:
            yield f"/v1/senders/{quote(address, safe='')}"
        except Unanswered as error:
            raise OperatorError(
                f"{network_text(key)} belongs to {error}; `tidegate explain {address}` answers anywhere"
            ) from None

    def _decisions(self, key: int) -> list[Decision]:
        lengths = range(8, 33) if key >= IPV4_TAG else range(16, 65)
        return self.board.about({network_text(key, length) for length in lengths})

    def _live_counts(self) -> tuple[int, int]:
        """Throttles in force that defer, and those in shadow."""
        now_s = time.monotonic()
        if now_s - self._live[0] > COUNT_S:
            self.board.forget(int(time.time() * 1000))
            shadows = sum(found.verdict == SHADOW for found in self.board.throttles.values())
            self._live = (now_s, len(self.board.throttles) - shadows, shadows)
        return self._live[1:]

    def _moved(self, found: Mover) -> dict[str, Any]:
        told = self.board.throttles.get(network_text(found.key))
        return {
            "address": key_text(found.key).removesuffix("/64"),
            "messages": round(found.messages, 1),
            "expected": round(found.expected, 1),
            "active_days": found.active_days,
            "until": found.throttled_until_ms,
            "shadow": told is not None and told.verdict == SHADOW,
        }

    def _silent(self) -> dict[str, float]:
        return self.board.silent(3 * self._settings.edge.heartbeat_ms)


def _key(address: str) -> int:
    try:
        return key_of(address.strip().removesuffix("/32").removesuffix("/64"))
    except ValueError as error:
        raise OperatorError(f"{error}: give an IPv4 or IPv6 address") from None


def _now_ms(shard: Shard) -> int:
    return max(int(time.time() * 1000), int(shard.partition.state.site["clock_ms"][0]))


def _told(found: Held) -> dict[str, Any]:
    made = found.decision()
    return {
        "network": made.network,
        "issued": made.issued,
        "until": made.until,
        "reason": made.reason,
        "shadow": made.verdict == SHADOW,
        "rate_per_h": round(60 * made.rate_per_min, 2),
        "tag": made.reply.get("tag", ""),
        "words": in_words(made).partition(": ")[2],
    }


def _said(found: Said) -> dict[str, Any]:
    told = {"network": found.network, "at": found.created, "ended": True, "reason": found.reason, "by": found.by}
    if isinstance(found, Override):
        names = ("kind", "action", "until", "owner", "rate_per_min")
        told |= {"ended": False, **{name: getattr(found, name) for name in names}}
    return told
