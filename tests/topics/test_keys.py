from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from topics.keys import IPV4_TAG, LAST_KEY, key_of, key_text
from topics.networks import key_of_network, network_text

KEYS = st.integers(0, LAST_KEY)


def test_ipv4_counts_by_address_and_ipv6_by_its_64_upper_bits() -> None:
    assert key_of("192.0.2.7") == 0xFFFFFFFF_C0000207
    assert key_of("2001:db8:1:2:3:4:5:6") == key_of("2001:db8:1:2::") == 0x20010DB8_00010002
    assert key_of("::") == key_of("::1") == 0


def test_mapped_ipv4_address_has_the_key_of_the_ipv4() -> None:
    assert key_of("::ffff:192.0.2.7") == key_of("::FFFF:C000:207") == key_of("192.0.2.7")
    assert key_of("::192.0.2.7") == 0
    assert key_of("64:ff9b::192.0.2.7") == 0x0064FF9B_00000000


def test_texts_are_canonical() -> None:
    v4, v6 = key_of("192.0.2.7"), key_of("2001:0DB8:0001:0002:ffff::1")
    assert (key_text(v4), network_text(v4)) == ("192.0.2.7", "192.0.2.7/32")
    assert key_text(v6) == network_text(v6) == "2001:db8:1:2::/64"
    assert key_text(0) == "::/64"
    assert key_text(0x2001_0000_0000_0002) == "2001:0:0:2::/64"


@pytest.mark.parametrize(
    "text",
    ["", " 192.0.2.7", "192.0.2.7\n", "192.0.2", "192.0.2.256", "192.0.2.07", "192.0.2.7/32", "1.2.3.4.5", "0x1.2.3.4",
     "٣.2.3.4", "unknown", "[192.0.2.7]", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::",
     "2001:db8::/64", "fe80::1%eth0", "::ffff:192.0.2.07", "::ffff:1.2.3.4%1", "ffff:ffff::1", "ffff:ffff:0:1::"],
)  # fmt: skip
def test_other_text_than_a_clients_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        key_of(text)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
@example(ipaddress.IPv6Address("fffe:ffff::"))
def test_every_address_has_the_key_of_its_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if int(address) >> 96 == 0xFFFFFFFF:
        return
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    plain = mapped or address
    key = key_of(str(address))
    assert key == key_of(address.exploded)
    network = ipaddress.ip_network(network_text(key))
    assert plain in network
    assert network.prefixlen == (32 if plain.version == 4 else 64)


@given(KEYS)
@example(IPV4_TAG)
@example(IPV4_TAG - 1)
@example(LAST_KEY)
def test_network_text_gives_its_key_back(key: int) -> None:
    assert key_of_network(network_text(key)) == key
    assert key_of(key_text(key).removesuffix("/64")) == key


@pytest.mark.parametrize("key", [-1, LAST_KEY + 1])
def test_key_beyond_64_bits_is_refused(key: int) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        key_text(key)


@given(st.text("0123456789abcdefABCDEF:.%/ g", max_size=24) | st.text(max_size=12))
def test_accepted_addresses_are_those_of_ipaddress(text: str) -> None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or "%" in text or int(address) >> 96 == 0xFFFFFFFF:
        with pytest.raises(ValueError, match=r"(?s).*"):
            key_of(text)
    else:
        assert 0 <= key_of(text) <= LAST_KEY
