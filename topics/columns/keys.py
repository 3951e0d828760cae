"""IP text to 64-bit keys and back, compiled: the twin of `topics.keys`. Also keys to partitions, and keys inside networks.

A key is the upper half of an IPv6 address (the /64) or ``0xFFFFFFFF00000000 | IPv4``. Addresses of ``ffff:ffff::/32`` are
multicast, never a client, so the two ranges can't collide. The parsers read the plain forms only. For others (dotted IPv4
inside IPv6, zone ids, malformed text) they return "not understood", and the caller asks `topics.keys`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from topics.columns.jit import inline, kernel
from topics.columns.memory import byte_at, int64
from topics.networks import IPV4_BITS, KEY_BITS, Network

IPV4_TAG = np.uint64(0xFFFFFFFF00000000)
SCRATCH = 64  # bytes, enough for every key text: the longest is an IPv6 /64, 24


@inline
def _parse_ipv4(text: Any, start: int, end: int) -> Any:
    """Return (understood, address) of a dotted quad. Refuses leading zeros, as Python's ipaddress does."""
    address = np.uint64(0)
    groups = 0
    i = start
    while i < end:
        first = i
        value = 0
        while i < end and i - first < 4:
            digit = byte_at(text, i) - 48
            if digit < 0 or digit > 9:
                break
            value = value * 10 + digit
            i += 1
        length = i - first
        if length == 0 or length > 3 or value > 255 or (length > 1 and byte_at(text, first) == 48):
            return False, address
        address = (address << np.uint64(8)) | np.uint64(value)
        groups += 1
        if i == end:
            break
        if byte_at(text, i) != 46 or groups == 4:
            return False, address
        i += 1
        if i == end:
            return False, address
    return groups == 4, address


@inline
def _hex_digit(byte: int) -> int:
    if 48 <= byte <= 57:
        return byte - 48
    if 97 <= byte <= 102:
        return byte - 87
    if 65 <= byte <= 70:
        return byte - 55
    return -1


@inline
def _parse_ipv6(text: Any, start: int, end: int) -> Any:
    """Return (understood, upper 64 bits, lower 64 bits). Groups before ``::`` fill from the left, others from the right."""
    high, low = np.uint64(0), np.uint64(0)
    tail_high, tail_low = np.uint64(0), np.uint64(0)
    zero = np.uint64(0)
    before, after = 0, 0
    compressed = False
    i = start
    if end - start >= 2 and byte_at(text, i) == 58 and byte_at(text, i + 1) == 58:
        compressed = True
        i += 2
    while i < end:
        value, digits = np.uint64(0), 0
        while i < end and digits < 5:
            digit = _hex_digit(byte_at(text, i))
            if digit < 0:
                break
            value = (value << np.uint64(4)) | np.uint64(digit)
            digits += 1
            i += 1
        if digits == 0 or digits > 4:
            return False, zero, zero
        if compressed:
            tail_high = (tail_high << np.uint64(16)) | (tail_low >> np.uint64(48))
            tail_low = (tail_low << np.uint64(16)) | value
            after += 1
        else:
            high = (high << np.uint64(16)) | (low >> np.uint64(48))
            low = (low << np.uint64(16)) | value
            before += 1
        if before + after > 8 or i == end:
            break
        if byte_at(text, i) != 58:
            return False, zero, zero
        i += 1
        if i == end:
            return False, zero, zero
        if byte_at(text, i) == 58:
            if compressed:
                return False, zero, zero
            compressed = True
            i += 1
    if compressed:
        if before + after > 7:
            return False, zero, zero
        for _ in range(8 - before):
            high = (high << np.uint64(16)) | (low >> np.uint64(48))
            low = low << np.uint64(16)
        return True, high | tail_high, low | tail_low
    return before == 8, high, low


@inline
def parse_key(text: Any, start: int, end: int) -> Any:
    """Return (understood, key) of the address in ``text[start:end]`` (uint8)."""
    if end - start < 2 or end - start > 39:
        return False, np.uint64(0)
    for i in range(start, min(end, start + 5)):
        if byte_at(text, i) == 46:
            understood, address = _parse_ipv4(text, start, end)
            return understood, IPV4_TAG | address
        if byte_at(text, i) == 58:
            break
    understood, high, low = _parse_ipv6(text, start, end)
    if understood and high == np.uint64(0) and (low >> np.uint64(32)) == np.uint64(0xFFFF):
        return True, IPV4_TAG | (low & np.uint64(0xFFFFFFFF))
    if (high >> np.uint64(32)) == np.uint64(0xFFFFFFFF):
        return False, high
    return understood, high


@inline
def _write_decimal(value: int, out: Any, at: int) -> int:
    if value >= 100:
        out[at] = 48 + value // 100
        at += 1
    if value >= 10:
        out[at] = 48 + value // 10 % 10
        at += 1
    out[at] = 48 + value % 10
    return at + 1


@inline
def write_ipv4(address: int, out: Any, at: int) -> int:
    """Write a dotted quad at ``out[at:]`` (uint8) and return the position after it."""
    for group in range(4):
        if group:
            out[at] = 46
            at += 1
        at = _write_decimal((address >> (24 - 8 * group)) & 255, out, at)
    return at


@inline
def _write_hex(value: int, out: Any, at: int) -> int:
    started = False
    for nibble in range(4):
        digit = (value >> (12 - 4 * nibble)) & 15
        if digit or started or nibble == 3:
            out[at] = 48 + digit if digit < 10 else 87 + digit
            at += 1
            started = True
    return at


@inline
def _group(high: Any, low: Any, g: int) -> int:
    """Return the g-th 16-bit group of an IPv6 address, from the left."""
    half = high if g < 4 else low
    return int64((half >> np.uint64(48 - 16 * (g & 3))) & np.uint64(0xFFFF))


@inline
def write_ipv6(high: Any, low: Any, out: Any, at: int) -> int:
    """Write the canonical text (RFC 5952) of an IPv6 address at ``out[at:]`` and return the position after it."""
    best, best_length, g = -1, 1, 0
    while g < 8:
        run = 0
        while g + run < 8 and _group(high, low, g + run) == 0:
            run += 1
        if run > best_length:
            best, best_length = g, run
        g += max(run, 1)
    g = 0
    while g < 8:
        if g == best:
            out[at] = out[at + 1] = 58
            at += 2
            g += best_length
            continue
        if g and g != best + best_length:
            out[at] = 58
            at += 1
        at = _write_hex(_group(high, low, g), out, at)
        g += 1
    return at


@inline
def write_key(key: Any, out: Any, at: int) -> int:
    """Write a record key (``192.0.2.7``, ``2001:db8:1:2::/64``) at ``out[at:]`` and return the position after it."""
    if key >= IPV4_TAG:
        return write_ipv4(int64(key & np.uint64(0xFFFFFFFF)), out, at)
    at = write_ipv6(key, np.uint64(0), out, at)
    out[at], out[at + 1], out[at + 2] = 47, 54, 52
    return at + 3


@inline
def murmur2(text: Any, length: int) -> Any:
    """Return Kafka's murmur2 of ``text[:length]`` (uint8), as uint32 (org.apache.kafka.common.utils.Utils.murmur2)."""
    m = np.uint32(0x5BD1E995)
    h = np.uint32(np.uint32(0x9747B28C) ^ np.uint32(length))
    i = 0
    while i + 4 <= length:
        k = np.uint32(
            np.uint32(text[i])
            | (np.uint32(text[i + 1]) << np.uint32(8))
            | (np.uint32(text[i + 2]) << np.uint32(16))
            | (np.uint32(text[i + 3]) << np.uint32(24))
        )
        k = np.uint32(k * m)
        k = np.uint32(k ^ (k >> np.uint32(24)))
        k = np.uint32(k * m)
        h = np.uint32(np.uint32(h * m) ^ k)
        i += 4
    left = length - i
    if left == 3:
        h = np.uint32(h ^ (np.uint32(text[i + 2]) << np.uint32(16)))
    if left >= 2:
        h = np.uint32(h ^ (np.uint32(text[i + 1]) << np.uint32(8)))
    if left >= 1:
        h = np.uint32(np.uint32(h ^ np.uint32(text[i])) * m)
    h = np.uint32(h ^ (h >> np.uint32(13)))
    h = np.uint32(h * m)
    return np.uint32(h ^ (h >> np.uint32(15)))


@inline
def partition_of_key(key: Any, partitions: int, scratch: Any) -> int:
    """Return the partition that Kafka's default partitioner gives a key's record key. ``scratch`` is uint8[SCRATCH]."""
    length = write_key(key, scratch, 0)
    return int64(murmur2(scratch, length) & np.uint32(0x7FFFFFFF)) % partitions


@kernel
def _partitions_of_keys(keys: Any, partitions: int, scratch: Any, out: Any) -> None:
    for i in range(keys.shape[0]):
        out[i] = partition_of_key(keys[i], partitions, scratch)


def partitions_of_keys(keys: npt.NDArray[np.uint64], partitions: int) -> npt.NDArray[np.int32]:
    """Return the partition (int32) that Kafka's default partitioner gives each key's record key."""
    out = np.empty(len(keys), np.int32)
    _partitions_of_keys(keys, partitions, np.empty(SCRATCH, np.uint8), out)
    return out


def keys_inside(
    networks: Iterable[Network], keys: npt.NDArray[np.uint64], lengths: npt.NDArray[np.int64] | int = 0
) -> npt.NDArray[np.bool_]:
    """Return which of the networks ``keys[i]`` with prefix ``lengths[i]`` (0: the key's own) are inside any of `networks`.

    Makes one pass over the keys for each prefix length among `networks`; those smaller than a key hold none.
    """
    is_ipv4 = keys >= IPV4_TAG
    own = np.where(is_ipv4, IPV4_BITS, KEY_BITS)
    lengths = np.where(np.equal(lengths, 0), own, lengths)
    heads_by_length: dict[tuple[int, int], list[int]] = {}
    for network in networks:
        if network.has_whole_keys:
            head = network.number >> network.bits - network.length
            heads_by_length.setdefault((network.bits, network.length), []).append(head)
    inside = np.zeros(len(keys), np.bool_)
    for (bits, length), heads in heads_by_length.items():
        width = IPV4_BITS if bits == IPV4_BITS else KEY_BITS
        addresses = keys & np.uint64(0xFFFFFFFF) if bits == IPV4_BITS else keys
        prefixes = addresses >> np.uint64(width - length) if length else np.zeros(len(keys), np.uint64)
        inside |= (own == width) & (lengths >= length) & np.isin(prefixes, np.array(heads, np.uint64))
    return inside
