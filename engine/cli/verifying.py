"""`tidegate explain --verify`: decisions computed again from their events, from files or from a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import click
import numpy as np

from engine import assembly
from engine.analysis.verification import Verified, in_lines, place, verify
from engine.cli.explain import NO_SOURCE, decisions_on, key_from
from engine.cli.files import event_files, numbered_lines
from engine.cli.options import settings_from
from engine.config import Settings
from engine.errors import OperatorError
from engine.replay import EventReader
from engine.stream.looking import connection_events
from engine.stream.run import check_topics
from engine.warm import warm
from topics.columns.keys import partitions_of_keys
from topics.decisions import BadDecision, Decision, decode_decision
from topics.keys import key_text, network_text
from topics.partitioner import partition_of

ALL = "all"


class Answer(NamedTuple):
    """``own_offsets``: of the sender's events; ``gone``: how many offsets the topic has no more."""

    found: list[Verified]
    own_offsets: list[int]
    gone: int


def verified(ctx: click.Context, network: str, events: Sequence[str], options: dict[str, Any]) -> int:
    """Say which decisions are what their events lead to; the exit status: 0 if all are."""
    settings = settings_from(ctx, kafka_bootstrap=options["bootstrap"])
    assembly.engines_own(settings, "explain --verify")
    key = None if network == ALL and events else key_from(network)
    warm()
    if events:
        if options["decisions"] is None:
            raise OperatorError("verify which decisions? Give --decisions FILE, as `tidegate replay` wrote it")
        answer = from_files(settings, key, events, decisions_of(options["decisions"], key))
    elif not settings.kafka.bootstrap:
        raise OperatorError(NO_SOURCE)
    else:
        check_topics(settings, create=False)
        assert key is not None
        answer = asyncio.run(from_cluster(settings, key))
    if not answer.found:
        raise OperatorError(f"no decision on {network} to verify")
    for line in in_lines(*answer):
        click.echo(line)
    return 0 if all(one.equal for one in answer.found) else 1


def decisions_of(name: str, key: int | None) -> list[Decision]:
    """The decisions in a file, on a key's network or all. OperatorError for a line that is none."""
    network, found = None if key is None else network_text(key), []
    for number, line in numbered_lines(name, "decisions"):
        try:
            decision = decode_decision(line)
        except BadDecision as error:
            raise OperatorError(f"{name}, line {number}: {error}") from error
        if network is None or decision.network == network:
            found.append(decision)
    return found


def from_files(settings: Settings, key: int | None, events: Sequence[str], given: Sequence[Decision]) -> Answer:
    """Replay the files, and compare."""
    engine, wanted, computed = assembly.replay(settings), {place(decision) for decision in given}, list[Decision]()
    for source in event_files(events, "replay"):
        for decisions in engine.run(source):
            computed += [decision for decision in decisions if place(decision) in wanted]
    found = verify(given, computed)
    differ = key is not None and "-" not in events and not all(one.equal for one in found)
    own = list(_own_offsets(settings, key, events)) if differ and key is not None else []
    return Answer(found, own, 0)


def _own_offsets(settings: Settings, key: int, events: Sequence[str]) -> Iterator[int]:
    """The offsets of a key's events in its partition, as a replay counts them."""
    partitions, before = settings.topics.partitions, 0
    number = partition_of(key_text(key).encode(), partitions)
    reader = EventReader()
    for source in event_files(events, "look up"):
        for columns in reader.blocks(source):
            own = columns.key[partitions_of_keys(columns.key, partitions) == number]
            yield from (np.flatnonzero(own == np.uint64(key)) + before).tolist()
            before += len(own)


async def from_cluster(settings: Settings, key: int) -> Answer:
    """Go through the sender's partition of the connections topic, and compare with the decisions on the topic."""
    number, network = partition_of(key_text(key).encode(), settings.topics.partitions), network_text(key)
    given = [
        decision
        for decision in await decisions_on(settings, key)
        if decision.network == network and decision.source.partition == number
    ]
    last = max((decision.source.offset for decision in given), default=-1)
    partition, composer, wanted = (
        assembly.partition(settings, number),
        assembly.composer(settings),
        {*map(place, given)},
    )
    computed, own, gone = list[Decision](), list[int](), 0
    async for columns, _ in connection_events(settings, number):
        if len(columns.offset) and partition.applied_offset < 0:
            gone = int(columns.offset[0])
        own += columns.offset[columns.key == np.uint64(key)].tolist()
        verdicts = partition.apply(columns, 0, len(columns.offset))
        made = (composer.decision(verdict, number) for verdict in verdicts if int(verdict["key"]) == key)
        computed += [decision for decision in made if place(decision) in wanted]
        if partition.applied_offset >= last:
            break
    return Answer(verify(given, computed), own, gone)
