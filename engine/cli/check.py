"""`tidegate check`: one line per finding, with advice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click

from engine.cli.options import bootstrap_option, settings_from
from engine.service import checks
from engine.service.checks import FAIL, OK, WARN, CheckFinding
from topics.errors import OperatorError

COLOURS = {OK: "green", WARN: "yellow", FAIL: "red"}


@click.command()
@bootstrap_option
@click.pass_context
def check(ctx: click.Context, bootstrap: str | None) -> None:
    """Check this machine, the configuration and, if one is configured, the cluster.

    Each finding is one line: ok, warn or fail, with advice. Exit status: 0, or 1 if a check failed, or 2 for misuse.

    \b
    Example:
      tidegate check --bootstrap mail-kafka:9092
    """
    counts = dict.fromkeys(COLOURS, 0)
    for finding in _findings(ctx, bootstrap):
        counts[finding.state] += 1
        advice = f": {finding.advice}" if finding.advice else ""
        click.echo(f"{click.style(f'{finding.state:<4}', fg=COLOURS[finding.state])}  {finding.text}{advice}")
    click.echo(f"{counts[OK]} ok, {counts[WARN]} warnings, {counts[FAIL]} failed")
    ctx.exit(1 if counts[FAIL] else 0)


def _findings(ctx: click.Context, bootstrap: str | None) -> Iterator[CheckFinding]:
    yield from checks.check_environment()
    try:
        settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    except OperatorError as error:
        yield CheckFinding(FAIL, f"configuration: {error}")
        return
    yield CheckFinding(OK, f"configuration valid, hash in decisions sha256:{settings.config_hash()[:12]}...")
    yield from checks.check_memory(settings)
    if settings.kafka.bootstrap:
        yield from asyncio.run(checks.check_cluster(settings))
    else:
        yield from checks.check_folder("embedded broker's folder", Path(settings.local.data_dir))
        yield CheckFinding(
            OK, "no cluster configured: `up` and `demo` start their own broker (pass --bootstrap to check a cluster)"
        )
