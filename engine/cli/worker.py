"""`tidegate worker`: one process of the engine, on an existing cluster."""

from __future__ import annotations

import click

from engine.cli.options import bootstrap_option, reader_from, require_cluster, settings_from


@click.command(epilog="Example:  tidegate worker --bootstrap kafka1:9092")
@bootstrap_option
@click.option("--http", metavar="HOST:PORT", help="Listener for page, status and metrics.  [default: worker.http]")
@click.option("--status-file", metavar="FILE", help="Write a JSON snapshot of the counters to FILE twice a second.")
@click.pass_context
def worker(ctx: click.Context, bootstrap: str | None, http: str | None, status_file: str | None) -> None:
    """Run a worker until SIGINT or SIGTERM: read events, publish throttle decisions.

    The topics must exist (`tidegate topics --create`). Start more workers with the same worker.app_id to share the load.
    """
    overrides = {"kafka_bootstrap": bootstrap, "worker_http": http, "worker_status_file": status_file}
    settings = settings_from(ctx, **overrides)
    require_cluster(settings)
    from engine.kafka.topic_admin import check_topics
    from engine.service.worker import run_worker

    check_topics(settings, create=False)
    run_worker(settings, reader_from(ctx, **overrides))
