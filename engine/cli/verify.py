"""`tidegate explain --verify`: decisions computed again from their events, from files or from a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import click
import orjson

from engine.analysis.verify import Recomputation, Verification, offset_shifts, verify
from engine.analysis.verify_text import as_json as json_object
from engine.analysis.verify_text import in_lines
from engine.cli.files import event_files
from engine.cli.sources import NO_SOURCE, decisions_of, decisions_on, key_from
from engine.config.load import Settings
from engine.kafka.topic_admin import check_topics
from engine.pipeline import build
from engine.pipeline.precompile import precompile
from engine.pipeline.replay import Dealer, EventReader
from engine.worker.cluster_reader import connection_events, first_offset
from topics.decisions import Decision
from topics.errors import OperatorError
from topics.keys import key_text
from topics.networks import network_text
from topics.partitioner import partition_of

ALL = "all"


def verify_network(
    settings: Settings, network: str, events: Sequence[str], decisions: str | None, *, as_json: bool
) -> int:
    """Print which decisions are equal to their recomputation. Return the exit status: 0 if all are, else 1.

    Without `events` the decisions and events of the cluster are used; otherwise `decisions` names the file of decisions.
    """
    build.require_peak_memory(settings, "explain --verify")
    key = None if network == ALL and events else key_from(network)
    precompile()
    if events:
        if decisions is None:
            raise OperatorError("no decisions to verify: give --decisions FILE, as `tidegate replay` wrote it")
        verification = from_files(settings, key, events, decisions_of(decisions))
    elif not settings.kafka.bootstrap:
        raise OperatorError(NO_SOURCE)
    else:
        check_topics(settings, create=False)
        assert key is not None
        verification = asyncio.run(from_cluster(settings, key))
    if not verification.decisions:
        raise OperatorError(f"no decision on {network} to verify")
    if as_json:
        click.echo(orjson.dumps({"network": network, **json_object(verification)}))
    else:
        click.echo("\n".join(in_lines(verification)))
    return 0 if all(result.is_equal for result in verification.decisions) else 1


def from_files(
    settings: Settings, key: int | None, events: Sequence[str], published: Sequence[Decision]
) -> Verification:
    """Replay the files and verify the decisions on a key's network, or all without a key.

    Decisions on other networks of the key's partition show where events were added or removed.
    """
    composer, count = build.composer(settings), settings.topics.partitions
    own_number = None if key is None else partition_of(key_text(key).encode(), count)
    _refuse_other_partitions(published, count, key)
    dealer, partitions = Dealer(count), list[Recomputation]()
    for number in range(count):
        ours = [decision for decision in published if decision.source.partition == number]
        partitions.append(Recomputation(build.partition(settings, number), composer, ours))
    reader = EventReader()
    for source in event_files(events, "replay"):
        for columns in reader.blocks(source):
            for number, dealt, _ in dealer.deal(columns):
                if own_number is None or number == own_number:
                    partitions[number].apply(dealt)
    return _verification(
        partitions if own_number is None else [partitions[own_number]], key, published, composer.config
    )


def _refuse_other_partitions(published: Sequence[Decision], partitions: int, key: int | None) -> None:
    """Raise OperatorError for a decision whose partition is impossible with the configured number of partitions."""
    network, own = ("", 0) if key is None else (network_text(key), partition_of(key_text(key).encode(), partitions))
    for decision in published:
        number = decision.source.partition
        if number >= partitions or (decision.network == network and number != own):
            raise OperatorError(
                f"the decision on {decision.network} is of partition {number}, which is impossible with topics.partitions = "
                f"{partitions}: give the configuration of that time"
            )


def _verification(
    partitions: Sequence[Recomputation], key: int | None, published: Sequence[Decision], config: str
) -> Verification:
    recomputed = [decision for partition in partitions for decision in partition.decisions]
    numbers = {partition.partition.number for partition in partitions}
    results = verify([decision for decision in published if decision.source.partition in numbers], recomputed)
    asked = results if key is None else [made for made in results if made.decision.network == network_text(key)]
    return Verification(asked, offset_shifts(results), 0, config)


async def from_cluster(settings: Settings, key: int) -> Verification:
    """Recompute the sender's partition from the connections topic and verify the decisions on its network."""
    number, network = partition_of(key_text(key).encode(), settings.topics.partitions), network_text(key)
    published = [
        decision
        for decision in await decisions_on(settings, key)
        if decision.network == network and decision.source.partition == number
    ]
    first, composer = await first_offset(settings, number), build.composer(settings)
    recomputation = Recomputation(build.partition(settings, number), composer, published)
    async with aclosing(connection_events(settings, number)) as events:
        async for columns, _ in events:
            recomputation.apply(columns)
            if recomputation.is_complete:
                break
    return _verification([recomputation], key, published, composer.config)._replace(deleted_before=first)
