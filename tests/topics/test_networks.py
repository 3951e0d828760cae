"""Networks as integers and as keys, compared with `ipaddress`."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.columns.keys import keys_inside
from topics.keys import IPV4_TAG, LAST_KEY, key_of
from topics.networks import Network, canonical_network, key_of_network, key_range, network_of, network_of_key, overlap

PLAIN = st.integers(0, 32).flatmap(
    lambda length: st.integers(0, (1 << length) - 1).map(lambda head: Network(32, head << 32 - length, length))
) | st.integers(0, 128).flatmap(
    lambda length: st.integers(0, (1 << length) - 1).map(lambda head: Network(128, head << 128 - length, length))
)
NEAR = PLAIN | st.integers(0, 32).map(lambda length: Network(32, 0xC0000200, 32).supernet(length))
KEYS = st.integers(0, LAST_KEY) | st.integers(0xC0000200, 0xC000020F).map(lambda address: IPV4_TAG | address)


def parsed(network: Network) -> IPv4Network | IPv6Network:
    kind = IPv4Network if network.bits == 32 else IPv6Network
    return kind((network.number, network.length))


def is_inside(inner: Network, outer: Network) -> bool:
    return inner.bits == outer.bits and parsed(inner).subnet_of(parsed(outer))  # type: ignore[arg-type]


@given(PLAIN)
def test_text_of_a_network_is_that_of_ipaddress(network: Network) -> None:
    assert str(network) == str(parsed(network))


@given(NEAR, NEAR)
def test_covers_and_overlap_agree_with_ipaddress(one: Network, other: Network) -> None:
    assert one.covers(other) == is_inside(other, one)
    assert overlap(one, other) == (one.bits == other.bits and parsed(one).overlaps(parsed(other)))


@given(NEAR, st.integers(0, 128))
def test_supernet_agrees_with_ipaddress(network: Network, shorter: int) -> None:
    length = min(shorter, network.length)

    assert str(network.supernet(length)) == str(parsed(network).supernet(new_prefix=length))


@given(st.lists(NEAR, max_size=5), st.lists(KEYS, max_size=10), st.sampled_from([0, 8, 24, 32]))
def test_keys_inside_agrees_with_covers(networks: list[Network], keys: list[int], length: int) -> None:
    found = keys_inside(networks, np.array(keys, np.uint64), np.full(len(keys), length, np.int64))

    assert found.tolist() == [any(outer.covers(network_of_key(key, length)) for outer in networks) for key in keys]


@pytest.mark.parametrize("network", ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "2001:db8:1:2::/64"])
def test_key_range_has_the_keys_of_first_and_last_address(network: str) -> None:
    both_ends = ip_network(network)

    assert key_range(network) == (key_of(str(both_ends[0])), key_of(str(both_ends[-1])))
    assert network_of(network).first_key == key_range(network)[0]


@pytest.mark.parametrize("network", ["2001:db8::/65", "::/0", "ffff:ffff::/32", "192.0.2.1/24", "x"])
def test_key_range_of_another_network_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        key_range(network)


def test_canonical_network_takes_netmasks_and_mapped_addresses() -> None:
    assert canonical_network("192.0.2.0/255.255.255.0") == "192.0.2.0/24"
    assert canonical_network("::ffff:192.0.2.7") == "192.0.2.7/32"


@pytest.mark.parametrize(
    "text",
    ["192.0.2.7", "192.0.2.0/24", "192.0.2.7/032", "192.0.2.7/", "2001:db8::", "2001:db8::/48", "2001:db8::1/64", "x/64",
     "::ffff:192.0.2.7/64", "2001:db8::/64/64"],
)  # fmt: skip
def test_other_networks_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        key_of_network(text)
