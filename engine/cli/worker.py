"""`tidegate worker`: one process of the engine, on a cluster that is there."""

from __future__ import annotations

import click

from engine.cli.options import bootstrap_option, reader_from, settings_from
from topics.errors import OperatorError

NO_CLUSTER = "no Kafka given: say --bootstrap HOST:PORT, or run `tidegate up`, which brings its own"


@click.command(epilog="Example:  tidegate worker --bootstrap kafka1:9092")
@bootstrap_option
@click.option("--http", metavar="HOST:PORT", help="Where page, status and metrics are.  [default: worker.http]")
@click.option("--status-file", metavar="FILE", help="Write a JSON snapshot of the counters there, twice a second.")
@click.pass_context
def worker(ctx: click.Context, bootstrap: str | None, http: str | None, status_file: str | None) -> None:
    """Run a worker: events in, throttle decisions out, until SIGINT or SIGTERM.

    The topics must exist (`tidegate topics --create`). Start more workers with the same worker.app_id to share the load.
    """
    said = {"kafka_bootstrap": bootstrap, "worker_http": http, "worker_status_file": status_file}
    settings = settings_from(ctx, **said)
    if not settings.kafka.bootstrap:
        raise OperatorError(NO_CLUSTER)
    from engine.service.worker import check_topics, run_worker

    check_topics(settings, create=False)
    run_worker(settings, reader_from(ctx, **said))
