"""Signed records: only the holder of a key can write one that verifies."""

from __future__ import annotations

import pytest

from topics.signing import ID_BYTES, BadKey, Signer

OLD, NEW = b"o" * 32, b"n" * 32
RECORD = ("decisions", b"192.0.2.7/32", b'{"network":"192.0.2.7/32"}')


def test_signature_of_the_same_key_verifies() -> None:
    assert Signer([OLD]).verify(*RECORD, Signer([OLD]).sign(*RECORD))


@pytest.mark.parametrize(
    "changed",
    [
        ("exemptions", RECORD[1], RECORD[2]),
        (RECORD[0], b"192.0.2.8/32", RECORD[2]),
        (RECORD[0], RECORD[1], RECORD[2] + b" "),
        ("decisions1", b"92.0.2.7/32", RECORD[2]),
    ],
)
def test_signature_of_another_record_is_refused(changed: tuple[str, bytes, bytes]) -> None:
    mac = Signer([OLD]).sign(*RECORD)

    assert not Signer([OLD]).verify(*changed, mac)


@pytest.mark.parametrize("mac", [None, b"", b"x" * 20, Signer([NEW]).sign(*RECORD)])
def test_missing_short_or_foreign_signature_is_refused(mac: bytes | None) -> None:
    assert not Signer([OLD]).verify(*RECORD, mac)


def test_every_single_bit_of_a_signature_counts() -> None:
    mac = Signer([OLD]).sign(*RECORD)
    assert mac is not None

    for bit in range(8 * len(mac)):
        flipped = bytearray(mac)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not Signer([OLD]).verify(*RECORD, bytes(flipped))


def test_rotation_verifies_both_keys_and_signs_with_the_first() -> None:
    both = Signer([NEW, OLD])

    assert both.verify(*RECORD, Signer([OLD]).sign(*RECORD))
    assert Signer([NEW]).verify(*RECORD, both.sign(*RECORD))


def test_without_a_key_nothing_is_signed_and_all_passes() -> None:
    assert Signer().sign(*RECORD) is None
    assert Signer().verify(*RECORD, None)
    assert not Signer()


def test_key_id_reveals_no_key_bytes() -> None:
    mac = Signer([OLD]).sign(*RECORD)

    assert mac is not None
    assert OLD[:ID_BYTES] not in mac


@pytest.mark.parametrize("keys", [[b"short"], [b"x" * 65], [OLD, NEW, b"t" * 32]])
def test_unusable_keys_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(BadKey, match=r"signing key"):
        Signer(keys)
