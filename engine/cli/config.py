"""`tidegate config`: the effective configuration."""

from __future__ import annotations

import click
import orjson

from engine.cli.options import settings_from, url_option
from engine.config.dump import effective_options, toml_text
from engine.web.client import get_json, worker_address


@click.command(epilog="Example:  tidegate config --running")
@click.option(
    "--running", is_flag=True, help="Show a running worker's configuration and compare it with the local one."
)
@url_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of TOML.")
@click.pass_context
def config(ctx: click.Context, running: bool, url: str | None, as_json: bool) -> None:
    """Show all options with their effective values (file, environment and defaults) and the hash in decisions.

    With --running a worker is queried instead; the exit status is 1 if its hash differs from that of the local configuration.
    """
    settings = settings_from(ctx)
    local = f"sha256:{settings.config_hash()}"
    options, config_hash = effective_options(settings), local
    if running:
        answer = get_json(worker_address(settings, url), "/v1/config")[1]
        options, config_hash = answer["options"], answer["config"]
    if as_json:
        click.echo(orjson.dumps({"config": config_hash, "options": options}))
    else:
        click.echo(f"# config: {config_hash}\n\n{toml_text(options)}")
    if config_hash != local:
        click.echo(f"the worker's configuration differs from the local one ({local[:19]})", err=True)
    ctx.exit(0 if config_hash == local else 1)
