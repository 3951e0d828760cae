"""From settings to the parts of the pure engine, the same for a worker, a replay, and whatever compares replays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.config.load import Settings
from engine.config.validators import listed
from engine.decisions.compose import Composer, Reply
from engine.decisions.override_index import Book
from engine.decisions.publish_gate import Gate
from engine.decisions.shadow import Shadow, shadow_of
from engine.detector.breaker import cap_of
from engine.detector.budget import threshold_of
from engine.detector.constants import DAY_MS
from engine.detector.pools import least_keys
from engine.detector.relays import relays_of
from engine.detector.throttle import Policy
from engine.pipeline.replay import EventReader, Replay
from engine.state.partition import Partition
from topics.contracts import CONNECTIONS, EXEMPTIONS
from topics.decisions import OVERRIDE, POOL, PROBATION, VOLUME
from topics.errors import OperatorError
from topics.overrides import Said

PEAK_MEMORY = "peak-memory"


def composer(settings: Settings) -> Composer:
    """What turns verdicts into decisions."""
    known, newcomer = settings.reply.status_volume, settings.reply.status_probation
    status = {
        VOLUME: known,
        PROBATION: newcomer,
        POOL: settings.reply.status_pool,
        OVERRIDE: settings.reply.status_override,
    }
    reply = Reply(status, settings.reply.text)
    return Composer(
        settings.topics.prefix + CONNECTIONS.name, f"sha256:{settings.config_hash()}", reply, shadow(settings)
    )


def shadow(settings: Settings) -> Shadow:
    """What of the engine's decisions is in shadow."""
    model = settings.model
    return shadow_of(model.mode == "shadow", listed(model.shadow_reasons), listed(model.shadow_networks))


def enforcing(settings: Settings) -> Settings:
    """The same without a shadow."""
    return replace(settings, model=replace(settings.model, mode="enforce", shadow_reasons="", shadow_networks=""))


def policy(settings: Settings, number: int) -> Policy:
    """What the operator chose, for one partition."""
    model, partitions = settings.model, settings.topics.partitions
    keys = least_keys(partitions)
    return Policy(
        threshold=threshold_of(model.budget_percent),
        window_ms=settings.worker.event_time_window_s * 1000,
        partition=number,
        partitions=partitions,
        pool_keys=(keys, 0.0 if model.wide_pools == "off" else keys),
        shadow=model.wide_pools == "shadow",
        relays=relays_of(settings.relays),
        learning_ms=model.learning_days * DAY_MS,
        decides=model.decides,
        guard=cap_of(model.budget_percent) if model.guard == "on" else 0.0,
    )


def partition(settings: Settings, number: int) -> Partition:
    """A partition that has seen nothing yet."""
    made = Partition(policy(settings, number), settings.worker.rows_per_partition)
    made.state.site["shadow"] = shadow(settings).digest
    return made


def replay(settings: Settings, reader: EventReader | None = None, said: Sequence[Said] = ()) -> Replay:
    """All partitions of a site that has seen nothing yet; ``reader`` if several replays share what is read; ``said``: what
    operators have said there, in its order."""
    numbers = range(settings.topics.partitions)
    if settings.model.detector == PEAK_MEMORY:
        partitions, made = [partition(settings, number) for number in numbers], composer(settings)
        book, topic = Book(said), settings.topics.prefix + EXEMPTIONS.name
        gates = [Gate(book, own, made, topic) for own in partitions] if said else []
        return Replay(partitions, made, reader, gates)
    from engine.pipeline.river_detector import WindowComposer, WindowPartition  # noqa: PLC0415 (river takes a second)

    own = composer(settings)
    windows = [WindowPartition(policy(settings, number), settings.river) for number in numbers]
    return Replay(windows, WindowComposer(own, settings.river.pipeline), reader)


def engines_own(settings: Settings, command: str) -> None:
    """OperatorError if ``command``, which needs the engine's own model, is asked of another detector."""
    if settings.model.detector != PEAK_MEMORY:
        raise OperatorError(
            f"model.detector = {settings.model.detector!r} is for replays and comparisons: {command} needs {PEAK_MEMORY!r}"
        )
