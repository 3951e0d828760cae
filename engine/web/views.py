"""The content of the worker's page, read from the engine between two blocks. The work of each reply is bounded.

A request for a sender whose partition another worker owns goes to that worker (`engine.web.peer_client`); an overview has all
workers' parts. The search for top senders reads all rows, so it runs in a thread, at most every `TOP_SENDERS_S` and only on
request. A sender's events are read from the topic for one request at a time, and a plot is cached for `PLOT_S`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from typing import Any
from urllib.parse import quote

from engine.alerts.alert_state import Covers
from engine.alerts.conditions import AlertThresholds, Condition, Visibility, find_conditions
from engine.analysis import plot
from engine.analysis.explanation import explain
from engine.config.dump import effective_options
from engine.config.validators import split_list
from engine.detector.constants import HOUR_MS
from engine.metrics.exposition import Histogram
from engine.state.top_senders import TopSender, top_senders
from engine.web.decision_log import DecisionLog, LoggedDecision
from engine.web.health_checks import find_problems
from engine.web.history import build_timeline, read_events
from engine.web.peer_client import PLOT_TIMEOUT_S, PeerClient, PeerUnavailable
from engine.web.peers import partitions_text
from engine.web.rate_history import RateHistory
from engine.worker.apply import BlockApplier
from engine.worker.reload import Reloader
from engine.worker.shard import Shard
from engine.worker.status import EndOffset, status_of
from topics.decisions import SHADOW, Decision
from topics.errors import OperatorError
from topics.keys import IPV4_TAG, key_of, key_text
from topics.networks import network_text
from topics.overrides import Override, OverrideRecord
from topics.partitioner import partition_of
from topics.words import decision_text

TOP_SENDERS_S = 5.0
PLOT_S = 15.0
MAX_PLOTS = 32
MAX_TOP_SENDERS = 15
DEFAULT_ROWS, MAX_ROWS = 50, 500
COUNT_S = 2.0


class Views:
    """The content of one worker's pages."""

    def __init__(self, reloader: Reloader, engine: BlockApplier, end_offset: EndOffset, peers: PeerClient) -> None:
        settings = reloader.settings
        watch = split_list(settings.notify.watch)
        self.decision_log = DecisionLog(settings.topics.prefix, settings.kafka.client_options(), watch)
        self.rate_history = RateHistory(engine)
        self._reloader, self._settings = reloader, settings
        self._engine, self._end_offset, self._peers = engine, end_offset, peers
        self._top_senders: tuple[float, list[dict[str, Any]]] = (0.0, [])
        self._active_counts: tuple[float, int, int] = (0.0, 0, 0)
        self._search_lock, self._plot_lock = asyncio.Lock(), asyncio.Lock()
        self._plots: dict[int, tuple[float, str]] = {}

    @property
    def latency(self) -> Histogram:
        """The latency of decisions."""
        return self._engine.flow.latency

    def status(self) -> dict[str, Any]:
        """Return the status of `engine.worker.status`."""
        return status_of(self._engine, self._end_offset)

    def config(self) -> dict[str, Any]:
        """Return the current configuration, and the outcome of the last reload."""
        last = self._reloader.last
        return {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "config": self._engine.composer.config,
            "options": effective_options(self._reloader.settings),
            "reload": last and asdict(last),
        }

    def problems(self) -> list[str]:
        """Return a sentence for each problem of this worker."""
        return find_problems(self.status())

    def evaluate_conditions(self) -> tuple[list[Condition], Covers]:
        """Return the conditions that are true now, and the test which ones this worker can detect."""
        options, log, status = self._settings.notify, self.decision_log, self.status()
        thresholds = AlertThresholds(options.lag_s, options.budget_percent / 100)
        if not log.is_caught_up:
            visible = Visibility(status["partitions"], (), lambda _: False)
            return list(find_conditions(status, {}, {}, thresholds)), visible.covers
        watched = log.watched_throttles(int(time.time() * 1000))
        visible = Visibility(status["partitions"], log.heartbeats, log.is_watched)
        return list(find_conditions(status, self._silent_edges(), watched, thresholds)), visible.covers

    async def part(self) -> dict[str, Any]:
        """Return this worker's part of an overview."""
        status = self.status()
        return {
            "worker": self._peers.own.name,
            "status": status,
            "problems": find_problems(status),
            "rates": [*self.rate_history.samples, self.rate_history.current()],
            "top_senders": await self.top_senders(),
        }

    async def overview(self) -> dict[str, Any]:
        """Return the content of the first page: the parts of all workers, or why one is missing, and the site's decisions."""
        part, parts, unowned = await self.part(), await self._peers.parts(), self._peers.unowned()
        active, in_shadow = self._count_active()
        alive = sum(1 for at_ms in self.decision_log.heartbeats.values() if at_ms)
        return {
            **part,
            "others": parts.others,
            "missing": [
                *parts.missing,
                *([f"not shown: {partitions_text(unowned)}, which no worker owns now"] if unowned else []),
            ],
            "partitions": self._settings.topics.partitions,
            "active": active,
            "in_shadow": in_shadow,
            "caught_up": self.decision_log.is_caught_up,
            "decisions": self.decisions("", DEFAULT_ROWS),
            "edges": {"alive": alive, "silent": self._silent_edges()},
        }

    def decisions(self, search: str, limit: int) -> list[dict[str, Any]]:
        """Return active throttles, those in shadow mode too, the last published first; see `DecisionLog.active`."""
        throttles = self.decision_log.active(int(time.time() * 1000), search.strip().lower())
        return [_decision_fields(throttle) for throttle in islice(throttles, min(limit, MAX_ROWS))]

    def overrides(self) -> dict[str, Any]:
        """Return active overrides, and the history of overrides and removals, the last first."""
        log = self.decision_log
        return {
            "overrides": [
                _override_fields(override) for override in islice(reversed(log.overrides.values()), MAX_ROWS)
            ],
            "history": [_override_fields(record) for record in islice(reversed(log.override_history), MAX_ROWS)],
        }

    async def top_senders(self) -> list[dict[str, Any]]:
        """Return the senders furthest above their own baseline in the last hour, over this worker's partitions."""
        async with self._search_lock:
            if time.monotonic() - self._top_senders[0] > TOP_SENDERS_S:
                partitions = [shard.partition for shard in self._engine.shards]
                each = await asyncio.to_thread(lambda: [top_senders(one, MAX_TOP_SENDERS) for one in partitions])
                ranked = sorted((top for part in each for top in part), key=lambda top: top.expected - top.messages)
                fields = [self._top_sender_fields(top) for top in ranked[:MAX_TOP_SENDERS]]
                self._top_senders = (time.monotonic(), fields)
        return self._top_senders[1]

    async def sender(self, address: str, *, forwarded: bool) -> dict[str, Any]:
        """Return why a sender is throttled or not, like `tidegate explain`, from the owner of its partition.

        A request that another worker has ``forwarded`` is not forwarded again. Raises `OperatorError`.
        """
        key = _key(address)
        shard = self._shard(key)
        if shard is None:
            with self._forwarding(key, forwarded=forwarded) as path:
                return await self._peers.get_object(self._number(key), path)
        explanation = explain(shard.partition, key, _now_ms(shard), self._decisions(key), self._engine.composer.config)
        return {
            **explanation.as_json(),
            "address": key_text(key).removesuffix("/64"),
            "partition": shard.partition.number,
            "worker": self._peers.own.name,
            "decision_log": [
                {"issued": decision.issued, "verdict": decision.verdict, "words": decision_text(decision)}
                for decision in explanation.decisions
            ],
        }

    async def plot(self, address: str, *, forwarded: bool) -> str:
        """Return a plot of the sender's last day as SVG, from the same worker as `sender`. Raises `OperatorError`."""
        key = _key(address)
        shard = self._shard(key)
        if shard is None:
            with self._forwarding(key, forwarded=forwarded) as path:
                svg = await self._peers.get(self._number(key), f"{path}/plot.svg", PLOT_TIMEOUT_S)
            return svg.decode(errors="replace")
        async with self._plot_lock:
            plotted_s, text = self._plots.get(key, (0.0, ""))
            if time.monotonic() - plotted_s > PLOT_S:
                text = await self._draw(shard, key)
                while len(self._plots) >= MAX_PLOTS:
                    del self._plots[next(iter(self._plots))]
                self._plots[key] = (time.monotonic(), text)
        return text

    async def _draw(self, shard: Shard, key: int) -> str:
        partition, now_ms = shard.partition, _now_ms(shard)
        events = await read_events(self._settings, partition.number, key, now_ms)
        if not len(events.ts_ms):
            hours = (now_ms - events.since_ms) / HOUR_MS
            raise OperatorError(
                f"{network_text(key)} has sent nothing in the last {hours:,.1f} hours, which the page reads"
            )
        timeline = await asyncio.to_thread(build_timeline, partition, key, events, self._decisions(key), now_ms)
        frame = plot.frame_of(timeline, max(events.since_ms, int(events.ts_ms[0]) - HOUR_MS), now_ms)
        return await asyncio.to_thread(plot.svg, timeline, timeline.most_exceeded_scale(), frame)

    def _number(self, key: int) -> int:
        return partition_of(key_text(key).encode(), self._settings.topics.partitions)

    def _shard(self, key: int) -> Shard | None:
        """Return the shard of a sender's partition, None if another worker owns it."""
        number = self._number(key)
        return next((shard for shard in self._engine.shards if shard.partition.number == number), None)

    @contextmanager
    def _forwarding(self, key: int, *, forwarded: bool) -> Iterator[str]:
        """Give the path for the request to the owner; `OperatorError` if it can't be forwarded or gets no reply."""
        number, address = self._number(key), key_text(key).removesuffix("/64")
        belongs = f"{network_text(key)} belongs to partition {number}"
        restoring = self._engine.shards.restoring().get(number)
        if restoring is not None:
            share = restoring.timing.restored_share
            raise OperatorError(
                f"{belongs}, whose state is being restored, {share:.0%} of it is read: try again in a few seconds"
            )
        if forwarded:
            raise OperatorError(
                f"{belongs}, which worker {self._peers.own.name} doesn't own: try again in a few seconds"
            )
        try:
            yield f"/v1/senders/{quote(address, safe='')}"
        except PeerUnavailable as error:
            raise OperatorError(
                f"{network_text(key)} belongs to {error}; `tidegate explain {address}` works anywhere"
            ) from None

    def _decisions(self, key: int) -> list[Decision]:
        lengths = range(8, 33) if key >= IPV4_TAG else range(16, 65)
        return self.decision_log.decisions_on({network_text(key, length) for length in lengths})

    def _count_active(self) -> tuple[int, int]:
        """Return the counts of active throttles that defer, and of those in shadow mode."""
        now_s, log = time.monotonic(), self.decision_log
        if now_s - self._active_counts[0] > COUNT_S:
            log.drop_expired(int(time.time() * 1000))
            in_shadow = sum(throttle.verdict == SHADOW for throttle in log.throttles.values())
            self._active_counts = (now_s, len(log.throttles) - in_shadow, in_shadow)
        return self._active_counts[1:]

    def _top_sender_fields(self, top: TopSender) -> dict[str, Any]:
        throttle = self.decision_log.throttles.get(network_text(top.key))
        return {
            "address": key_text(top.key).removesuffix("/64"),
            "messages": round(top.messages, 1),
            "expected": round(top.expected, 1),
            "active_days": top.active_days,
            "until": top.throttled_until_ms,
            "shadow": throttle is not None and throttle.verdict == SHADOW,
        }

    def _silent_edges(self) -> dict[str, float]:
        return self.decision_log.silent_edges(3 * self._settings.edge.heartbeat_ms)


def _key(address: str) -> int:
    try:
        return key_of(address.strip().removesuffix("/32").removesuffix("/64"))
    except ValueError as error:
        raise OperatorError(f"{error}: give an IPv4 or IPv6 address") from None


def _now_ms(shard: Shard) -> int:
    return max(int(time.time() * 1000), int(shard.partition.state.site["clock_ms"][0]))


def _decision_fields(logged: LoggedDecision) -> dict[str, Any]:
    decision = logged.decision()
    return {
        "network": decision.network,
        "issued": decision.issued,
        "until": decision.until,
        "reason": decision.reason,
        "shadow": decision.verdict == SHADOW,
        "rate_per_h": round(60 * decision.rate_per_min, 2),
        "tag": decision.reply.get("tag", ""),
        "words": decision_text(decision).partition(": ")[2],
    }


def _override_fields(record: OverrideRecord) -> dict[str, Any]:
    fields = {
        "network": record.network,
        "at": record.created,
        "ended": True,
        "reason": record.reason,
        "by": record.by,
    }
    if isinstance(record, Override):
        names = ("kind", "action", "until", "owner", "rate_per_min")
        fields |= {"ended": False, **{name: getattr(record, name) for name in names}}
    return fields
