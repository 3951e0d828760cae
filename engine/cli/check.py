"""`tidegate check`: one line a finding, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click

from engine.cli.options import bootstrap_option, settings_from
from engine.service import checks
from engine.service.checks import FAIL, OK, WARN, Finding
from topics.errors import OperatorError

COLOURS = {OK: "green", WARN: "yellow", FAIL: "red"}


@click.command()
@bootstrap_option
@click.pass_context
def check(ctx: click.Context, bootstrap: str | None) -> None:
    """Check this machine, the configuration and, if a broker is named, the cluster.

    One line a finding: ok, warn or fail, and what to do. Exit status: 0 if nothing fails, 1 if something does, 2 for
    misuse.

    \b
    Example:
      tidegate check --bootstrap mail-kafka:9092
    """
    counts = dict.fromkeys(COLOURS, 0)
    for finding in _findings(ctx, bootstrap):
        counts[finding.state] += 1
        advice = f": {finding.advice}" if finding.advice else ""
        click.echo(f"{click.style(f'{finding.state:<4}', fg=COLOURS[finding.state])}  {finding.text}{advice}")
    click.echo(f"{counts[OK]} ok, {counts[WARN]} to look at, {counts[FAIL]} failed")
    ctx.exit(1 if counts[FAIL] else 0)


def _findings(ctx: click.Context, bootstrap: str | None) -> Iterator[Finding]:
    yield from checks.check_environment()
    try:
        settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    except OperatorError as error:
        yield Finding(FAIL, f"configuration: {error}")
        return
    yield Finding(OK, f"configuration valid, decisions are marked sha256:{settings.config_hash()[:12]}...")
    yield from checks.check_memory(settings)
    if settings.kafka.bootstrap:
        yield from asyncio.run(checks.check_cluster(settings))
    else:
        yield from checks.check_folder("embedded broker's folder", Path(settings.local.data_dir))
        yield Finding(OK, "no broker named: `up` and `demo` start their own (give --bootstrap to check a cluster)")
