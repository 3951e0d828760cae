"""`tidegate filter`: the filter process that OpenSMTPD starts."""

from __future__ import annotations

import click

from engine.config.validators import listeners, parse_listen_addresses
from topics.errors import OperatorError


@click.command(name="filter", epilog="Example:  tidegate filter 127.0.0.1:10045")
@click.argument("address")
def filter_(address: str) -> None:
    """Run as OpenSMTPD's filter on standard input and output, and query the edge at ADDRESS.

    ADDRESS is that of the edge's edge.opensmtpd: HOST:PORT or unix:/PATH. If the edge doesn't reply within two seconds, mail
    proceeds.
    """
    if not address or "," in address or listeners(address):
        raise OperatorError(f"invalid edge address {address!r}: give HOST:PORT or unix:/PATH")
    from engine.edge.opensmtpd_filter import OpensmtpdFilter

    OpensmtpdFilter(parse_listen_addresses(address)[0]).run()
