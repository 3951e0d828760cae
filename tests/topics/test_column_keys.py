from __future__ import annotations

import ipaddress

import numpy as np
import numpy.typing as npt
import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.oracles import jsonscan
from tests.support.kernels import byte_array, murmur2_of, parse_one_key, write_one_ipv6, write_one_key
from topics.columns.keys import SCRATCH, partitions_of_keys
from topics.keys import IPV4_TAG, LAST_KEY, key_of, key_text
from topics.partitioner import murmur2, partition_of

V4, V6 = st.ip_addresses(v=4), st.ip_addresses(v=6)
SPARSE_V6 = st.lists(st.sampled_from([0, 0, 0, 1, 0xFFFF, 0xABC, 0x2001]), min_size=8, max_size=8).map(
    lambda groups: ipaddress.IPv6Address(int.from_bytes(b"".join(g.to_bytes(2, "big") for g in groups), "big"))
)
KEYS = st.one_of(
    st.integers(0, LAST_KEY), V4.map(lambda ip: IPV4_TAG | int(ip)), SPARSE_V6.map(lambda ip: int(ip) >> 64)
)
NEARLY = st.text("0123456789abcdefABCDEF:.%/ g", max_size=42)


def parse(text: str) -> int | None:
    """The key, None when the kernel hands the text on."""
    buffer = byte_array(text.encode())
    understood, key = parse_one_key(buffer, 0, len(buffer))
    return int(key) if understood else None


def written(key: int) -> str:
    out = np.zeros(SCRATCH, np.uint8)
    return out[: write_one_key(np.uint64(key), out)].tobytes().decode()


@st.composite
def forms(draw: st.DrawFn) -> str:
    """Any of the texts that mean one IPv6 address: long, short, in capitals, leading zeros, any run left out."""
    address = draw(V6 | SPARSE_V6)
    plain = draw(st.sampled_from([str(address), address.exploded]))
    groups = address.exploded.split(":")
    run = draw(st.integers(0, 7)), draw(st.integers(1, 8))
    if set("".join(groups[run[0] : run[0] + run[1]])) == {"0"} and draw(st.booleans()):
        left, right = groups[: run[0]], groups[run[0] + run[1] :]
        plain = f"{':'.join(left)}::{':'.join(right)}"
    return draw(st.sampled_from([plain, plain.upper()]))


@given(V4.map(str) | forms())
@example("::")
@example("1::")
@example("::8")
@example("1:2:3:4:5:6:7::")
@example("::2:3:4:5:6:7:8")
@example("::ffff:c000:207")
@example("::FFFF:0:0")
@example("0:0:0:0:0:ffff:1:2")
@example("fffe:ffff::")
def test_plain_forms_of_every_address_are_understood(text: str) -> None:
    address = ipaddress.ip_address(text)
    if int(address) >> 96 == 0xFFFFFFFF:
        assert parse(text) is None
        return
    assert parse(text) == key_of(text) == jsonscan.key_of(text)


@settings(max_examples=10 * settings().max_examples)
@given(NEARLY | V4.map(str) | V6.map(str) | st.text(max_size=12))
@example("1:2:3:4:5:6:7:8:9")
@example("1:2:3:4:5:6:7:8::")
@example("1::2::3")
@example("1.2.3.4.")
@example("1.2.3")
@example("1.2.3.256")
@example("1.2.3.04")
@example("1234.1.1.1")
@example(":1")
@example("1:")
@example(":::")
@example("12345::")
@example("fe80::1%1")
@example("")
@example("1" * 40)
def test_understood_text_has_the_key_of_the_slow_parser(text: str) -> None:
    key = parse(text)
    if key is not None:
        assert key == key_of(text)


@pytest.mark.parametrize(
    "text", ["::ffff:192.0.2.7", "64:ff9b::192.0.2.7", "::1.2.3.4", "ffff:ffff::1", "ffff:ffff:0:1::"]
)
def test_embedded_ipv4_and_multicast_are_not_understood(text: str) -> None:
    assert parse(text) is None


def test_text_outside_start_and_end_is_not_parsed() -> None:
    buffer = byte_array(b"9192.0.2.71")
    assert parse_one_key(buffer, 1, 10) == (True, key_of("192.0.2.7"))


@given(KEYS)
@example(0)
@example(IPV4_TAG - 1)
@example(IPV4_TAG)
@example(LAST_KEY)
@example(0x2001_0000_0000_0002)
@example(0x0000_0000_2001_0000)
def test_key_text_equals_the_slow_writers(key: int) -> None:
    assert written(key) == key_text(key)


@given(V6 | SPARSE_V6)
def test_address_text_equals_that_of_ipaddress(address: ipaddress.IPv6Address) -> None:
    out = np.zeros(SCRATCH, np.uint8)
    size = write_one_ipv6(np.uint64(int(address) >> 64), np.uint64(int(address) & LAST_KEY), out)
    mapped = address.ipv4_mapped
    assert out[:size].tobytes().decode() == (str(address) if mapped is None else f"::ffff:{str_hex(mapped)}")


def str_hex(address: ipaddress.IPv4Address) -> str:
    """The two groups of an IPv4 address within IPv6: newer versions of Python write it dotted."""
    return f"{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"


@given(KEYS)
def test_every_key_text_fits_the_scratch_memory(key: int) -> None:
    assert len(written(key)) <= 24 < SCRATCH


@given(st.binary(max_size=40))
def test_compiled_murmur2_equals_the_plain_one(text: bytes) -> None:
    assert int(murmur2_of(byte_array(text))) == murmur2(text) == aiokafka_murmur2(text) % 2**32


@given(st.lists(KEYS, max_size=20), st.integers(1, 200))
def test_key_has_the_partition_of_its_record_key(keys: list[int], partitions: int) -> None:
    dealt: npt.NDArray[np.int32] = partitions_of_keys(np.array(keys, np.uint64), partitions)
    assert dealt.tolist() == [partition_of(key_text(key).encode(), partitions) for key in keys]
