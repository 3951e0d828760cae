"""`tidegate plan`: estimate the resources that a load needs."""

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
    "--events-per-s", type=click.FloatRange(min=0, min_open=True), required=True, help="Peak events per second."
)
@click.option("--keys", type=click.IntRange(min=1), required=True, help="Senders tracked at a time.")
@click.option(
    "--busy",
    type=click.FloatRange(0.05, 1),
    default=0.6,
    show_default=True,
    help="Utilisation of a worker at the peak.",
)
@click.option(
    "--cpu-s-per-million",
    type=click.FloatRange(min=0, min_open=True),
    help="Measured CPU seconds per million events.  [default: model]",
)
@click.pass_context
def plan(ctx: click.Context, /, events_per_s: float, keys: int, busy: float, cpu_s_per_million: float | None) -> None:
    """Estimate workers, cores, partitions, memory and disk for a load, and the options to set.

    Uses a linear model of measured costs and includes one spare worker. Exit status: 0, or 2 if no plan fits.
    """
    from engine.detector.layout import BYTES_A_ROW

    settings = settings_from(ctx)
    load = Load(events_per_s, keys, busy, cpu_s_per_million or 0.0)
    needed = capacity.plan(load, settings, BYTES_A_ROW)
    for line in aligned(("resource", "needed", "basis"), list(_rows(load, needed))):
        click.echo(line)
    for line in _options(settings, needed):
        click.echo(line)


def _rows(load: Load, plan: Plan) -> Iterator[tuple[str, str, str]]:
    source = "as given" if load.cpu_s_per_million else "measured with a similar share of newcomers"
    yield "cores for workers", f"{plan.cores:.2f}", f"{plan.cpu_s_per_million:.2f} CPU s per million events, {source}"
    yield (
        "workers",
        f"{plan.workers}",
        f"one processes {plan.worker_events_per_s:,.0f} events/s at {load.busy:.0%} utilisation; one spare",
    )
    yield "partitions", f"{plan.partitions}", "at least one per worker; can't be changed later"
    yield (
        "memory per worker",
        f"{plan.worker_mb:,.0f} MB",
        "tables after the loss of another worker, allocated at start",
    )
    disk = "unlimited" if plan.topic_gb is None else f"{plan.topic_gb:,.1f} GB"
    yield "disk for connections", disk, "lz4, one copy, kept for topics.retention_ms"
    yield "network", f"{plan.network_mb_per_s:,.1f} MB/s", "brokers to workers"
    yield (
        "takeover",
        f"{plan.restore_s:.1f} s",
        "from a worker's crash to its senders' next decision, without standby",
    )


def _options(settings: Settings, plan: Plan) -> Iterator[str]:
    """Yield the options with their current and needed values."""
    wanted = {
        "topics.partitions": (settings.topics.partitions, plan.partitions),
        "worker.rows_per_partition": (settings.worker.rows_per_partition, plan.rows_per_partition),
    }
    yield ""
    for name, (now, needed) in wanted.items():
        if now < needed:
            yield f"set {name} = {needed}  (now {now})"
        else:
            yield f"{name} = {now} is sufficient" + ("" if now == needed else f" (needed: {needed})")
