"""From settings to the parts of the pure engine, the same for a worker, a replay, and whatever compares replays."""

from __future__ import annotations

from engine.config import Settings
from engine.models.pools import least_keys
from engine.models.relays import relays_of
from engine.policy.compose import POOL, PROBATION, VOLUME, Composer, Reply
from engine.policy.partition import Partition
from engine.policy.throttle import Policy
from engine.replay import EventReader, Replay
from topics.contracts import CONNECTIONS


def composer(settings: Settings) -> Composer:
    """What turns verdicts into decisions."""
    known, newcomer = settings.reply.status_volume, settings.reply.status_probation
    reply = Reply({VOLUME: known, PROBATION: newcomer, POOL: settings.reply.status_pool}, settings.reply.text)
    return Composer(settings.topics.prefix + CONNECTIONS.name, f"sha256:{settings.config_hash()}", reply)


def partition(settings: Settings, number: int) -> Partition:
    """A partition that has seen nothing yet."""
    window_ms, partitions = settings.worker.event_time_window_s * 1000, settings.topics.partitions
    keys, rule = least_keys(partitions), settings.model.wide_pools
    pool_keys, relays = (keys, 0.0 if rule == "off" else keys), relays_of(settings.relays)
    policy = Policy(settings.model.threshold, window_ms, number, partitions, pool_keys, rule == "shadow", relays)
    return Partition(policy, settings.worker.rows_per_partition)


def replay(settings: Settings, reader: EventReader | None = None) -> Replay:
    """All partitions of a site that has seen nothing yet; ``reader`` if several replays share what is read."""
    parts = [partition(settings, number) for number in range(settings.topics.partitions)]
    return Replay(parts, composer(settings), reader)
