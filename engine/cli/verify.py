"""`tidegate explain --verify`: decisions computed again from their events, from files or from a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import click
import orjson

from engine.analysis.findings import Answer
from engine.analysis.recomputing import Recomputation
from engine.analysis.trail import Trail
from engine.analysis.verify import turns, verify
from engine.analysis.verify_text import as_json, in_lines
from engine.cli.explain import NO_SOURCE, decisions_on, key_from
from engine.cli.files import event_files, numbered_lines
from engine.cli.options import settings_from
from engine.config.load import Settings
from engine.pipeline import build
from engine.pipeline.precompile import warm
from engine.pipeline.replay import Dealer, EventReader
from engine.service.worker import check_topics
from engine.worker.cluster_reader import Follower, checkpoints, connection_events, first_offset
from topics.decisions import BadDecision, Decision, decode_decision
from topics.errors import OperatorError
from topics.keys import key_text, network_text
from topics.partitioner import partition_of

ALL = "all"


def verified(ctx: click.Context, network: str, events: Sequence[str], options: dict[str, Any]) -> int:
    """Say which decisions are what their events lead to; the exit status: 0 if all are."""
    settings = settings_from(ctx, kafka_bootstrap=options["bootstrap"])
    build.engines_own(settings, "explain --verify")
    key = None if network == ALL and events else key_from(network)
    warm()
    if events:
        if options["decisions"] is None:
            raise OperatorError("verify which decisions? Give --decisions FILE, as `tidegate replay` wrote it")
        answer = from_files(settings, key, events, decisions_of(options["decisions"]))
    elif not settings.kafka.bootstrap:
        raise OperatorError(NO_SOURCE)
    else:
        check_topics(settings, create=False)
        assert key is not None
        answer = asyncio.run(from_cluster(settings, key))
    if not answer.found:
        raise OperatorError(f"no decision on {network} to verify")
    if options["as_json"]:
        click.echo(orjson.dumps({"network": network, **as_json(answer)}))
    else:
        click.echo("\n".join(in_lines(answer)))
    return 0 if all(one.equal for one in answer.found) else 1


def decisions_of(name: str) -> list[Decision]:
    """The decisions in a file. OperatorError for a line that is none."""
    found = []
    for number, line in numbered_lines(name, "decisions"):
        try:
            found.append(decode_decision(line))
        except BadDecision as error:
            raise OperatorError(f"{name}, line {number}: {error}") from error
    return found


def from_files(settings: Settings, key: int | None, events: Sequence[str], given: Sequence[Decision]) -> Answer:
    """Go through the files' events, and compare with the decisions on a key's network, or with all. Those on other networks
    tell where events came or went."""
    composer, count = build.composer(settings), settings.topics.partitions
    own_number = None if key is None else partition_of(key_text(key).encode(), count)
    _refuse_others(given, count, key)
    dealer, again = Dealer(count), list[Recomputation]()
    for number in range(count):
        ours = [decision for decision in given if decision.source.partition == number]
        again.append(Recomputation(build.partition(settings, number), composer, ours, key))
    reader = EventReader()
    for source in event_files(events, "replay"):
        for columns in reader.blocks(source):
            for number, dealt, _ in dealer.deal(columns):
                if own_number is None or number == own_number:
                    again[number].apply(dealt)
    return _answer(again if own_number is None else [again[own_number]], key, given, composer.config)


def _refuse_others(given: Sequence[Decision], partitions: int, key: int | None) -> None:
    """OperatorError for a decision that no events can lead to with so many partitions."""
    network, own = ("", 0) if key is None else (network_text(key), partition_of(key_text(key).encode(), partitions))
    for decision in given:
        number = decision.source.partition
        if number >= partitions or (decision.network == network and number != own):
            raise OperatorError(
                f"the decision on {decision.network} is of partition {number}, where it can't be from with topics.partitions = "
                f"{partitions}: give the configuration of then"
            )


def _answer(again: Sequence[Recomputation], key: int | None, given: Sequence[Decision], config: str) -> Answer:
    made = [decision for one in again for decision in one.made]
    numbers = {one.partition.number for one in again}
    found = verify([decision for decision in given if decision.source.partition in numbers], made)
    asked = found if key is None else [one for one in found if one.decision.network == network_text(key)]
    return Answer(asked, turns(found), None if key is None else again[0].own, 0, config)


async def from_cluster(settings: Settings, key: int) -> Answer:
    """Go through the sender's partition of the connections topic, and compare with the decisions on the topic; if any isn't
    equal, a second time beside the checkpoints."""
    number, network = partition_of(key_text(key).encode(), settings.topics.partitions), network_text(key)
    given = [
        decision
        for decision in await decisions_on(settings, key)
        if decision.network == network and decision.source.partition == number
    ]
    gone, composer = await first_offset(settings, number), build.composer(settings)
    again = Recomputation(build.partition(settings, number), composer, given, key)
    async with aclosing(connection_events(settings, number)) as events:
        async for columns, _ in events:
            again.apply(columns)
            if again.done:
                break
    answer = _answer([again], key, given, composer.config)._replace(gone=gone)
    differ = [one.decision.source.offset for one in answer.found if not one.equal]
    if not differ or gone:
        return answer
    return answer._replace(trail=await _trail(settings, key, number, max(differ)))


async def _trail(settings: Settings, key: int, number: int, last: int) -> Trail:
    """The partition beside its checkpoints, until they are apart or one is behind the last offset."""
    partition = build.partition(settings, number)
    trail = Trail(partition, key)
    async with (
        aclosing(connection_events(settings, number)) as events,
        aclosing(checkpoints(settings, number)) as written,
    ):
        follower = Follower(partition, events)
        async for checkpoint in written:
            if checkpoint.offset < trail.upto:  # a state that was begun anew
                continue
            await follower.go_to(checkpoint.offset)
            trail.compare(checkpoint)
            if checkpoint.offset >= last or (trail.own and trail.rest):
                break
    return trail
