"""`tidegate edge`: the sidecar that MTAs ask."""

from __future__ import annotations

import click

from engine.cli.options import bootstrap_option, settings_from
from topics.errors import OperatorError

NO_CLUSTER = "no Kafka given: say --bootstrap HOST:PORT, or set kafka.bootstrap"


@click.command(epilog="Example:  tidegate edge --bootstrap kafka1:9092 --policy 127.0.0.1:10040")
@bootstrap_option
@click.option("--policy", metavar="PLACES", help="Where Postfix asks.  [default: edge.policy]")
@click.option("--http", metavar="PLACES", help="Where HTTP is spoken.  [default: edge.http]")
@click.option("--processes", type=int, metavar="N", help="Processes that answer.  [default: edge.processes]")
@click.option("--state-dir", metavar="DIR", help="This edge's own folder.  [default: edge.state_dir]")
@click.option("--shadow", is_flag=True, help="Defer nobody; log and count what would have been said.")
@click.pass_context
def edge(ctx: click.Context, /, bootstrap: str | None, shadow: bool, **given: str | int | None) -> None:
    """Answer mail servers from the decisions: 451 for the excess, no opinion otherwise and whenever in doubt.

    PLACES are HOST:PORT or unix:/PATH, several with commas; deploy/ has a snippet for each mail server. Kafka may be away:
    answers go on from what is known, and events wait on disk.
    """
    named = {f"edge_{name}": value for name, value in given.items()}
    settings = settings_from(ctx, kafka_bootstrap=bootstrap, edge_mode="shadow" if shadow else None, **named)
    if not settings.kafka.bootstrap:
        raise OperatorError(NO_CLUSTER)
    from engine.edge.run import run_edge

    run_edge(settings)
