"""`tidegate filter`: what OpenSMTPD starts."""

from __future__ import annotations

import click

from engine.config.validators import listeners
from topics.errors import OperatorError


@click.command(name="filter", epilog="Example:  tidegate filter 127.0.0.1:10045")
@click.argument("place")
def filter_(place: str) -> None:
    """Be OpenSMTPD's filter on standard input and output, and ask the edge at PLACE (its edge.opensmtpd): HOST:PORT or
    unix:/PATH. Without an edge, or without its answer within two seconds, mail proceeds."""
    if not place or "," in place or listeners(place):
        raise OperatorError(f"{place!r} is no place of an edge: give HOST:PORT or unix:/PATH")
    from engine.edge.opensmtpd_filter import Relay
    from engine.edge.servers import places

    Relay(next(places(place))).run()
