"""`tidegate topics`: show the topics' contracts, create the topics on a cluster, compare the cluster with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click
from rich import box
from rich.console import Console
from rich.table import Table

from engine.cli.options import bootstrap_option, require_cluster, settings_from
from engine.kafka.topic_admin import CREATED, TopicFinding, differences, ensure
from topics.contracts import UNLIMITED, Topic, contracts
from topics.times import duration_text

STATES = {True: "[red]fail[/]", False: "[yellow]note[/]"}


@click.command()
@bootstrap_option
@click.option("--create", is_flag=True, help="Create missing topics; existing ones are never altered.")
@click.option("--check", is_flag=True, help="Print differences only, one per line, without the table.")
@click.pass_context
def topics(ctx: click.Context, bootstrap: str | None, create: bool, check: bool) -> None:
    """Show the topics' contracts; on a cluster, also create missing topics and report differences.

    Exit status: 0 if the engine can run on the cluster's topics, 1 if a difference must be fixed first, 2 for misuse or an
    unreachable cluster.

    \b
    Example:
      tidegate topics --create --bootstrap mail-kafka:9092
    """
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    options = settings.topics
    wanted = contracts(options.prefix, options.partitions, options.retention_ms, options.replication)
    cluster = settings.kafka.bootstrap
    if not check:
        Console().print(contract_table(wanted))
    if not cluster:
        if create or check:
            require_cluster(settings)
        return
    compare = ensure if create else differences
    findings = asyncio.run(compare(cluster, wanted, settings.kafka.client_options()))
    report(findings, wanted, cluster)
    ctx.exit(1 if any(finding.fatal for finding in findings) else 0)


def report(findings: Sequence[TopicFinding], wanted: Sequence[Topic], cluster: str) -> None:
    """Print the findings, one per line, and the number of topics that meet their contract."""
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        state = "[green]new [/]" if finding.kind == CREATED else STATES[finding.fatal]
        console.print(state, "", end="")
        console.print(finding.text, markup=False)
    different = {finding.topic for finding in findings if finding.kind != CREATED}
    console.print(
        f"{len(wanted) - len(different)} of {len(wanted)} topics meet their contract on {cluster}", markup=False
    )


def contract_table(wanted: Sequence[Topic]) -> Table:
    """Return the contracts as a table."""
    table = Table(title="Topics", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("name", no_wrap=True)
    table.add_column("partitions", justify="right")
    table.add_column("cleanup", no_wrap=True)
    table.add_column("retention", no_wrap=True)
    table.add_column("record key", min_width=12)
    table.add_column("meaning", min_width=18)
    for topic in wanted:
        table.add_row(topic.name, str(topic.partitions), topic.cleanup, _retention(topic), topic.key, topic.meaning)
    return table


def _retention(topic: Topic) -> str:
    if topic.retention_ms is None:
        return "last per key"
    if topic.retention_ms == UNLIMITED:
        return "unlimited"
    return duration_text(topic.retention_ms)
