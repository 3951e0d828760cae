"""Build the parts of the pure engine from settings, the same for a worker, a replay and comparisons of replays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.config.load import Settings
from engine.config.validators import split_list
from engine.decisions.compose import Composer, ReplyTexts
from engine.decisions.override_index import OverrideIndex
from engine.decisions.publish_gate import PublishGate
from engine.decisions.shadow import ShadowRules, shadow_rules
from engine.detector.breaker import allowed_share
from engine.detector.budget import threshold_of
from engine.detector.constants import DAY_MS
from engine.detector.pools import min_new_keys
from engine.detector.relays import relays_of
from engine.detector.throttle import Policy
from engine.pipeline.replay import EventReader, Replay
from engine.state.partition import Partition
from topics.contracts import CONNECTIONS, EXEMPTIONS
from topics.decisions import OVERRIDE, POOL, PROBATION, VOLUME
from topics.errors import OperatorError
from topics.overrides import OverrideRecord

PEAK_MEMORY = "peak-memory"


def composer(settings: Settings) -> Composer:
    """Return what composes decisions from verdicts."""
    reply = settings.reply
    status = {
        VOLUME: reply.status_volume,
        PROBATION: reply.status_probation,
        POOL: reply.status_pool,
        OVERRIDE: reply.status_override,
    }
    topic, config = settings.topics.prefix + CONNECTIONS.name, f"sha256:{settings.config_hash()}"
    return Composer(topic, config, ReplyTexts(status, reply.text), shadow(settings))


def shadow(settings: Settings) -> ShadowRules:
    """Return which of the engine's decisions are in shadow."""
    model = settings.model
    return shadow_rules(model.mode == "shadow", split_list(model.shadow_reasons), split_list(model.shadow_networks))


def enforcing(settings: Settings) -> Settings:
    """Return the settings without shadow mode."""
    return replace(settings, model=replace(settings.model, mode="enforce", shadow_reasons="", shadow_networks=""))


def policy(settings: Settings, number: int) -> Policy:
    """Return the detector's options for one partition."""
    model, partitions = settings.model, settings.topics.partitions
    keys = min_new_keys(partitions)
    return Policy(
        threshold=threshold_of(model.budget_percent),
        window_ms=settings.worker.event_time_window_s * 1000,
        partition=number,
        partitions=partitions,
        pool_keys=(keys, 0.0 if model.wide_pools == "off" else keys),
        pool_shadow=model.wide_pools == "shadow",
        relays=relays_of(settings.relays),
        learning_ms=model.learning_days * DAY_MS,
        decides=model.decides,
        breaker_share=allowed_share(model.budget_percent) if model.guard == "on" else 0.0,
    )


def partition(settings: Settings, number: int) -> Partition:
    """Return a partition without state."""
    empty = Partition(policy(settings, number), settings.worker.rows_per_partition)
    empty.state.site["shadow_digest"] = shadow(settings).digest
    return empty


def replay(settings: Settings, reader: EventReader | None = None, overrides: Sequence[OverrideRecord] = ()) -> Replay:
    """Return a replay of all partitions without state.

    Replays that are compared share one ``reader``. ``overrides`` are the site's, in topic order.
    """
    numbers, compose = range(settings.topics.partitions), composer(settings)
    if settings.model.detector == PEAK_MEMORY:
        partitions = [partition(settings, number) for number in numbers]
        index, topic = OverrideIndex(overrides), settings.topics.prefix + EXEMPTIONS.name
        gates = [PublishGate(index, own, compose, topic) for own in partitions] if overrides else []
        return Replay(partitions, compose, reader, gates)
    from engine.pipeline.river_detector import WindowComposer, WindowPartition  # noqa: PLC0415 (river takes a second)

    windows = [WindowPartition(policy(settings, number), settings.river) for number in numbers]
    return Replay(windows, WindowComposer(compose, settings.river.pipeline), reader)


def require_peak_memory(settings: Settings, command: str) -> None:
    """Raise OperatorError if another detector than the engine's own is configured, which `command` can't use."""
    if settings.model.detector != PEAK_MEMORY:
        raise OperatorError(
            f"model.detector = {settings.model.detector!r} is for replays and comparisons: {command} needs {PEAK_MEMORY!r}"
        )
