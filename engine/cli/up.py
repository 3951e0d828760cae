"""`tidegate up`: everything on one machine, until stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from engine.cli.options import bootstrap_option, reader_from, settings_from
from engine.config.load import Settings


@click.command(epilog="Example:  tidegate up --data-dir /var/lib/tidegate --port 9092")
@bootstrap_option
@click.option("--data-dir", metavar="DIR", help="Where the broker keeps its data.  [default: local.data_dir]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port of the broker; 0 for a free one.  [default: local.port]"
)
@click.option("--http", metavar="HOST:PORT", help="Where the page is.  [default: worker.http]")
@click.option("--status-file", metavar="FILE", help="Write a JSON snapshot of the worker's counters there.")
@click.pass_context
def up(ctx: click.Context, /, bootstrap: str | None, **chosen: Any) -> None:
    """Run a broker and a worker with its page on this machine, creating the topics, until Ctrl-C.

    With --bootstrap (or kafka.bootstrap) that cluster is used and no broker started.
    """
    said = {
        "kafka_bootstrap": bootstrap,
        "local_data_dir": chosen["data_dir"],
        "local_port": chosen["port"],
        "worker_http": chosen["http"],
        "worker_status_file": chosen["status_file"],
    }
    settings, read = settings_from(ctx, **said), reader_from(ctx, **said)
    from engine.service.worker import check_topics, run_worker

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
