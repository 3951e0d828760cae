"""`tidegate edge`: the sidecar that MTAs query."""

from __future__ import annotations

import click

from engine.cli.options import bootstrap_option, require_cluster, settings_from


@click.command(epilog="Example:  tidegate edge --bootstrap kafka1:9092 --policy 127.0.0.1:10040")
@bootstrap_option
@click.option("--policy", metavar="LISTENERS", help="Postfix policy delegation.  [default: edge.policy]")
@click.option("--http", metavar="LISTENERS", help="HTTP: JSON, health, metrics.  [default: edge.http]")
@click.option("--processes", type=int, metavar="N", help="Number of serving processes.  [default: edge.processes]")
@click.option("--state-dir", metavar="DIR", help="Folder for this edge's state.  [default: edge.state_dir]")
@click.option("--shadow", is_flag=True, help="Shadow mode: log and count deferrals without applying them.")
@click.pass_context
def edge(
    ctx: click.Context,
    /,
    bootstrap: str | None,
    policy: str | None,
    http: str | None,
    processes: int | None,
    state_dir: str | None,
    shadow: bool,
) -> None:
    """Answer mail servers' queries from the decisions: 451 for mail over a throttle's rate, otherwise no opinion.

    LISTENERS are HOST:PORT or unix:/PATH, comma-separated; deploy/ has a snippet for each mail server. While Kafka is
    unavailable, the edge answers from the decisions it has and spools events to disk. If in doubt it has no opinion.
    """
    settings = settings_from(
        ctx,
        kafka_bootstrap=bootstrap,
        edge_policy=policy,
        edge_http=http,
        edge_processes=processes,
        edge_state_dir=state_dir,
        edge_mode="shadow" if shadow else None,
    )
    require_cluster(settings)
    from engine.edge.run import run_edge

    run_edge(settings)
