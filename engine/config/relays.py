"""Relays announced in the configuration file, name = networks: read, checked, and each network said in one way.

A name's networks may hold one another; two names may not share an address. IPv6 is counted by /64, so no network is
smaller than that. Whatever is wrong is one `OperatorError` that names the file, the relay, the network, and what to give.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from itertools import pairwise

from engine.config.validators import Networks
from topics.errors import OperatorError
from topics.keys import key_range

EXAMPLE = '["192.0.2.0/24", "2001:db8::/40"]'
_NAME = re.compile(r"[A-Za-z0-9._-]{1,60}")


def announced(section: object, where: str) -> Networks:
    """The relays of the section as TOML gave it, by name, networks sorted. ``where``: the file, for messages."""
    if not isinstance(section, dict):
        raise OperatorError(f"{where}: relays must be a section: write [relays] and below it name = {EXAMPLE}")
    relays = {name: _networks(name, section[name], where) for name in sorted(section)}
    _refuse_overlaps(relays, where)
    return relays


def _networks(name: str, listed: object, where: str) -> tuple[str, ...]:
    if not _NAME.fullmatch(name):
        raise OperatorError(
            f"{where}: relays: {name!r}: give a name of 1 to 60 letters, digits, dots, dashes, underscores"
        )
    if not isinstance(listed, list) or not listed or not all(isinstance(network, str) for network in listed):
        raise OperatorError(f"{where}: relays.{name} = {listed!r}: give a list of networks such as {EXAMPLE}")
    found = [_network(name, network, where) for network in listed]
    fours = collapse_addresses(network for network in found if isinstance(network, IPv4Network))
    sixes = collapse_addresses(network for network in found if isinstance(network, IPv6Network))
    return (*map(str, fours), *map(str, sixes))


def _network(name: str, text: str, where: str) -> IPv4Network | IPv6Network:
    try:
        key_range(text)
        return ip_network(text)
    except ValueError as error:
        raise OperatorError(f"{where}: relays.{name}: {error}: give networks such as {EXAMPLE}") from error


def _refuse_overlaps(relays: Networks, where: str) -> None:
    ranges = sorted((*key_range(network), name, network) for name, listed in relays.items() for network in listed)
    for (_, last, one, network), (first, _, other, inside) in pairwise(ranges):
        if first <= last:
            raise OperatorError(f"{where}: relays.{one} ({network}) and relays.{other} ({inside}) share addresses")
