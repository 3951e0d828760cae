"""`tidegate topics`: show the contracts of the topics, create the topics, compare a cluster with them, print rights."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click
from rich import box
from rich.console import Console
from rich.table import Table

from engine.cli.options import bootstrap_option, require_cluster, settings_from
from engine.kafka.acls import ROLES, default_principals
from engine.kafka.acls import commands as acl_commands
from engine.kafka.topic_admin import CREATED, TopicFinding, differences, ensure
from topics.contracts import UNLIMITED, Topic, contracts
from topics.errors import OperatorError
from topics.times import duration_text

STATES = {True: "[red]fail[/]", False: "[yellow]note[/]"}


@click.command()
@bootstrap_option
@click.option("--create", is_flag=True, help="Create missing topics; existing ones are never altered.")
@click.option("--check", is_flag=True, help="Print differences only, one per line, without the table.")
@click.option(
    "--acls", is_flag=True, help="Print the kafka-acls commands that give each role its rights; change nothing."
)
@click.option(
    "--principal", "principals", multiple=True, metavar="ROLE=PRINCIPAL",
    help="Principal of worker, edge, operator or producer, with --acls.  [default: User:tidegate-ROLE]",
)  # fmt: skip
@click.pass_context
def topics(
    ctx: click.Context, bootstrap: str | None, create: bool, check: bool, acls: bool, principals: tuple[str, ...]
) -> None:
    """Show the topics' contracts; on a cluster, also create missing topics and report differences.

    Exit status: 0 if the engine can run on the cluster's topics, 1 if a difference must be fixed first, 2 for misuse or an
    unreachable cluster.

    \b
    Example:
      tidegate topics --create --bootstrap mail-kafka:9092
    """
    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    if (acls and (create or check)) or (principals and not acls):
        raise OperatorError("--acls excludes --create and --check, and --principal needs --acls")
    if acls:
        click.echo("\n".join(acl_commands(settings, parse_principals(principals))))
        return
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


def parse_principals(given: Sequence[str]) -> dict[str, str]:
    """Return the principals by role from ROLE=PRINCIPAL texts. Raise OperatorError for another form or an unknown role."""
    principals = default_principals()
    for text in given:
        role, _, principal = text.partition("=")
        if role not in principals or ":" not in principal:
            raise OperatorError(
                f"--principal {text}: give ROLE=TYPE:NAME, such as edge=User:mx1; roles: {', '.join(ROLES)}"
            )
        principals[role] = principal
    return principals


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
