"""`tidegate up`: a broker and a worker on one machine, until stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from engine.cli.options import bootstrap_option, reader_from, settings_from
from engine.config.load import Settings


@click.command(epilog="Example:  tidegate up --data-dir /var/lib/tidegate --port 9092")
@bootstrap_option
@click.option("--data-dir", metavar="DIR", help="Folder for the broker's data.  [default: local.data_dir]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port of the broker; 0 for any free port.  [default: local.port]"
)
@click.option("--http", metavar="HOST:PORT", help="Listener for page, status and metrics.  [default: worker.http]")
@click.option("--status-file", metavar="FILE", help="Write a JSON snapshot of the counters to FILE twice a second.")
@click.pass_context
def up(
    ctx: click.Context,
    bootstrap: str | None,
    data_dir: str | None,
    port: int | None,
    http: str | None,
    status_file: str | None,
) -> None:
    """Run a broker and a worker with its page on this machine until Ctrl-C. The topics are created.

    With --bootstrap (or kafka.bootstrap), that cluster is used and no broker is started.
    """
    overrides = {
        "kafka_bootstrap": bootstrap,
        "local_data_dir": data_dir,
        "local_port": port,
        "worker_http": http,
        "worker_status_file": status_file,
    }
    settings, read = settings_from(ctx, **overrides), reader_from(ctx, **overrides)
    from engine.kafka.topic_admin import check_topics
    from engine.service.worker import run_worker

    if settings.kafka.bootstrap:
        check_topics(settings, create=True)
        run_worker(settings, read)
        return
    from engine.broker import EmbeddedBroker

    local = settings.local
    with EmbeddedBroker(Path(local.data_dir), port=local.port or None, heap_mb=local.heap_mb) as broker:
        click.echo(f"Kafka at {broker.bootstrap}, data in {local.data_dir}; Ctrl-C stops both", err=True)

        def on_broker(settings: Settings) -> Settings:
            return dataclasses.replace(settings, kafka=dataclasses.replace(settings.kafka, bootstrap=broker.bootstrap))

        check_topics(on_broker(settings), create=True)
        try:
            run_worker(on_broker(settings), lambda: on_broker(read()))
        finally:
            broker.check()
