"""Parse the section [relays] of the configuration file: name = networks.

The networks of one relay are collapsed and sorted, so equal relays have equal text and hash. Two relays may not share an
address. IPv6 senders are counted by /64, so an IPv6 network is a /64 or larger. Every fault is one `OperatorError` that names
the file, the relay, the network and the expected form.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from itertools import pairwise

from engine.config.validators import Networks
from topics.errors import OperatorError
from topics.networks import key_range

EXAMPLE = '["192.0.2.0/24", "2001:db8::/40"]'
_NAME = re.compile(r"[A-Za-z0-9._-]{1,60}")


def parse_relays(section: object, file: str) -> Networks:
    """Return the networks by relay name, both sorted, from the TOML section. `file` is named in errors."""
    if not isinstance(section, dict):
        raise OperatorError(f"{file}: relays must be a section: write [relays] and below it name = {EXAMPLE}")
    relays = {name: _networks(name, section[name], file) for name in sorted(section)}
    _refuse_overlaps(relays, file)
    return relays


def _networks(name: str, given: object, file: str) -> tuple[str, ...]:
    if not _NAME.fullmatch(name):
        raise OperatorError(
            f"{file}: relays: {name!r}: give a name of 1 to 60 letters, digits, dots, dashes, underscores"
        )
    if not isinstance(given, list) or not given or not all(isinstance(network, str) for network in given):
        raise OperatorError(f"{file}: relays.{name} = {given!r}: give a list of networks such as {EXAMPLE}")
    networks = [_network(name, network, file) for network in given]
    ipv4 = collapse_addresses(network for network in networks if isinstance(network, IPv4Network))
    ipv6 = collapse_addresses(network for network in networks if isinstance(network, IPv6Network))
    return (*map(str, ipv4), *map(str, ipv6))


def _network(name: str, text: str, file: str) -> IPv4Network | IPv6Network:
    try:
        key_range(text)
        return ip_network(text)
    except ValueError as error:
        raise OperatorError(f"{file}: relays.{name}: {error}: give networks such as {EXAMPLE}") from error


def _refuse_overlaps(relays: Networks, file: str) -> None:
    ranges = sorted((*key_range(network), name, network) for name, networks in relays.items() for network in networks)
    for (_, last, name, network), (first, _, other_name, other) in pairwise(ranges):
        if first <= last:
            raise OperatorError(f"{file}: relays.{name} ({network}) and relays.{other_name} ({other}) share addresses")
