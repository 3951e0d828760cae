"""`tidegate config`: the configuration in force."""

from __future__ import annotations

import click
import orjson

from engine.cli.options import settings_from, url_option
from engine.config.dump import effective, toml_text
from engine.web.client import ask, place_of


@click.command(epilog="Example:  tidegate config --running")
@click.option("--running", is_flag=True, help="That of a running worker, and how it differs from what stands here.")
@url_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of TOML.")
@click.pass_context
def config(ctx: click.Context, running: bool, url: str | None, as_json: bool) -> None:
    """Show every option as it holds (file, environment and defaults together), and the hash that stands in decisions.

    With --running a worker is asked instead; exit status 1 if it decides by another configuration than what stands here.
    """
    settings = settings_from(ctx)
    here = f"sha256:{settings.config_hash()}"
    found, mark = effective(settings), here
    if running:
        told = ask(place_of(settings, url), "/v1/config")[1]
        found, mark = told["options"], told["config"]
    if as_json:
        click.echo(orjson.dumps({"config": mark, "options": found}))
    else:
        click.echo(f"# config: {mark}\n\n{toml_text(found)}")
    if mark != here:
        click.echo(f"the worker decides by another configuration than what stands here ({here[:19]})", err=True)
    ctx.exit(0 if mark == here else 1)
