"""`tidegate plan`: what a load needs, before anything is bought or started."""

from __future__ import annotations

from collections.abc import Iterator

import click

from engine.cli.options import settings_from
from engine.cli.table import aligned
from engine.config.options import Settings
from engine.service import capacity
from engine.service.capacity import Load, Plan


@click.command(epilog="Example:  tidegate plan --events-per-s 500000 --keys 3000000")
@click.option(
    "--events-per-s", type=click.FloatRange(min=0, min_open=True), required=True, help="Events a second, peak."
)
@click.option("--keys", type=click.IntRange(min=1), required=True, help="Senders known at a time.")
@click.option(
    "--busy", type=click.FloatRange(0.05, 1), default=0.6, show_default=True, help="Share of a worker in use then."
)
@click.option("--cpu-s-per-million", type=click.FloatRange(min=0, min_open=True), help="CPU seconds, measured by you.")
@click.pass_context
def plan(ctx: click.Context, /, events_per_s: float, keys: int, busy: float, cpu_s_per_million: float | None) -> None:
    """Say how many workers, cores, partitions, how much memory and disk a load needs, and which options say so.

    A linear model from measured costs, with one worker to spare. Exit status: 0, or 2 if nothing fits.
    """
    from engine.detector.layout import BYTES_A_ROW

    settings = settings_from(ctx)
    load = Load(events_per_s, keys, busy, cpu_s_per_million or 0.0)
    found = capacity.plan(load, settings, BYTES_A_ROW)
    for line in aligned(("what", "needed", "why"), list(_rows(load, found))):
        click.echo(line)
    for line in _options(settings, found):
        click.echo(line)


def _rows(load: Load, found: Plan) -> Iterator[tuple[str, str, str]]:
    source = "as you measured" if load.cpu_s_per_million else "as measured with so many newcomers"
    yield "cores for workers", f"{found.cores:.2f}", f"{found.cpu_s_per_million:.2f} CPU s a million events, {source}"
    yield (
        "workers",
        f"{found.workers}",
        f"one takes {found.worker_events_per_s:,.0f} events/s, {load.busy:.0%} in use; one to spare",
    )
    yield "partitions", f"{found.partitions}", "at least one a worker; the count can't be changed later"
    yield "memory a worker", f"{found.worker_mb:,.0f} MB", "its tables when another worker is gone, allocated at start"
    disk = "grows for ever" if found.topic_gb is None else f"{found.topic_gb:,.1f} GB"
    yield "disk for connections", disk, "lz4, one copy, kept for topics.retention_ms"
    yield "network", f"{found.network_mb_per_s:,.1f} MB/s", "brokers to workers"
    yield (
        "take-over",
        f"{found.restore_s:.1f} s",
        "from a worker's death to its senders' next decision, without standby",
    )


def _options(settings: Settings, found: Plan) -> Iterator[str]:
    """The options that must be changed for it."""
    wanted = {
        "topics.partitions": (settings.topics.partitions, found.partitions),
        "worker.rows_per_partition": (settings.worker.rows_per_partition, found.rows_per_partition),
    }
    yield ""
    for name, (now, needed) in wanted.items():
        if now < needed:
            yield f"set {name} = {needed}  (now {now})"
        else:
            yield f"{name} = {now} is enough" + ("" if now == needed else f" ({needed} would do)")
