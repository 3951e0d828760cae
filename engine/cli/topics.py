"""`tidegate topics`: the contracts of the topics, created on a cluster and compared with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click
from rich import box
from rich.console import Console
from rich.table import Table

from engine.cli.options import bootstrap_option, settings_from
from engine.cli.worker import NO_CLUSTER
from engine.kafka.topic_admin import CREATED, Finding, differences, ensure
from topics.contracts import UNLIMITED, Topic, contracts
from topics.errors import OperatorError
from topics.times import span

STATES = {True: "[red]fail[/]", False: "[yellow]note[/]"}


@click.command()
@bootstrap_option
@click.option("--create", is_flag=True, help="Create what is missing; nothing that is there is altered.")
@click.option("--check", is_flag=True, help="Only the differences, one a line, without the table.")
@click.pass_context
def topics(ctx: click.Context, bootstrap: str | None, create: bool, check: bool) -> None:
    """Show the topics' contracts; with a cluster, create what is missing and say what differs.

    Exit status: 0 if the engine can run on the cluster's topics, 1 if something must be mended first, 2 for misuse or a
    cluster that can't be reached.

    \b
    Example:
      tidegate topics --create --bootstrap mail-kafka:9092
    """
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    ours = settings.topics
    wanted = contracts(ours.prefix, ours.partitions, ours.retention_ms, ours.replication)
    cluster = settings.kafka.bootstrap
    if not check:
        Console().print(contract_table(wanted))
    if not cluster:
        if create or check:
            raise OperatorError(NO_CLUSTER)
        return
    look = ensure if create else differences
    findings = asyncio.run(look(cluster, wanted, settings.kafka.client_options()))
    report(findings, wanted, cluster)
    ctx.exit(1 if any(finding.fatal for finding in findings) else 0)


def report(findings: Sequence[Finding], wanted: Sequence[Topic], cluster: str) -> None:
    """Say the findings, one a line, and how many topics are as they should be."""
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        state = "[green]new [/]" if finding.kind == CREATED else STATES[finding.fatal]
        console.print(state, "", end="")
        console.print(finding.text, markup=False)
    different = {finding.topic for finding in findings if finding.kind != CREATED}
    console.print(f"{len(wanted) - len(different)} of {len(wanted)} topics as contracted on {cluster}", markup=False)


def contract_table(wanted: Sequence[Topic]) -> Table:
    """The contracts as a table."""
    table = Table(title="Topics", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("name", no_wrap=True)
    table.add_column("parts", justify="right")
    table.add_column("cleanup", no_wrap=True)
    table.add_column("kept", no_wrap=True)
    table.add_column("record key", min_width=12)
    table.add_column("meaning", min_width=18)
    for topic in wanted:
        table.add_row(topic.name, str(topic.partitions), topic.cleanup, _kept(topic), topic.key, topic.meaning)
    return table


def _kept(topic: Topic) -> str:
    if topic.retention_ms is None:
        return "last a key"
    if topic.retention_ms == UNLIMITED:
        return "for ever"
    return span(topic.retention_ms)
