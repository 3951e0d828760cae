"""From settings to the parts of the pure engine, the same for a worker and for a replay."""

from __future__ import annotations

from engine.config import Settings
from engine.policy.compose import POOL, PROBATION, VOLUME, Composer, Reply
from engine.policy.partition import Partition
from engine.policy.throttle import Policy
from topics.contracts import CONNECTIONS


def composer(settings: Settings) -> Composer:
    """What turns verdicts into decisions."""
    known, newcomer = settings.reply.status_volume, settings.reply.status_probation
    reply = Reply({VOLUME: known, PROBATION: newcomer, POOL: newcomer}, settings.reply.text)
    return Composer(settings.topics.prefix + CONNECTIONS.name, f"sha256:{settings.config_hash()}", reply)


def partition(settings: Settings, number: int) -> Partition:
    """A partition that has seen nothing yet."""
    window_ms = settings.worker.event_time_window_s * 1000
    policy = Policy(settings.model.threshold, window_ms, number, settings.topics.partitions)
    return Partition(policy, settings.worker.rows_per_partition)
