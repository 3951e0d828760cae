"""Sign records, so that readers can ignore what no worker or operator of this site wrote. Pure: no file, no clock.

A record's header `mac` holds a key's id and a MAC over topic name, record key and content (the value, or of a tombstone the
header that carries its JSON): so network, verdict, term and source offset can't be changed, nor moved to another topic.
The MAC is keyed BLAKE2b of 128 bits (RFC 7693, section 2.9). HMAC-SHA-256 of a 600-byte record costs 2.0 us in CPython,
keyed BLAKE2b 1.3 us (same machine, same load).

Replay of an old record is not prevented here: readers ignore a decision that is not newer, by source offset.

Rotation: the first key signs, every key verifies. Add the new key as second everywhere, then make it the first everywhere,
then remove the old one.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import blake2b

MAC_HEADER = "mac"
LEAST_KEY_BYTES, MOST_KEY_BYTES = 16, 64
MOST_KEYS = 2
ID_BYTES, MAC_BYTES = 4, 16
_ID_PERSON = b"tidegate key id"


class BadKey(ValueError):
    """A signing key that can't be used; the message says why."""


class Signer:
    """One or two keys. Without a key nothing is signed, and every record passes verification.

    Raises `BadKey` for a key of another length than `LEAST_KEY_BYTES` to `MOST_KEY_BYTES`, or for too many keys.
    """

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        if len(keys) > MOST_KEYS:
            raise BadKey(f"{len(keys)} signing keys: give one, or two while keys are rotated")
        for key in keys:
            if not LEAST_KEY_BYTES <= len(key) <= MOST_KEY_BYTES:
                raise BadKey(f"a signing key has {len(key)} bytes: give {LEAST_KEY_BYTES} to {MOST_KEY_BYTES}")
        self._states = {_key_id(key): blake2b(key=key, digest_size=MAC_BYTES) for key in keys}
        self._first_id = _key_id(keys[0]) if keys else b""

    def __bool__(self) -> bool:
        """Return whether there is a key."""
        return bool(self._states)

    def sign(self, topic: str, key: bytes, content: bytes) -> bytes | None:
        """Return the header's value for a record, None without a key."""
        if not self._first_id:
            return None
        return self._first_id + self._mac(self._first_id, topic, key, content)

    def verify(self, topic: str, key: bytes, content: bytes, mac: bytes | None) -> bool:
        """Return whether one of the keys signed this record, or there is no key."""
        if not self._states:
            return True
        if mac is None or len(mac) != ID_BYTES + MAC_BYTES or mac[:ID_BYTES] not in self._states:
            return False
        return hmac.compare_digest(self._mac(mac[:ID_BYTES], topic, key, content), mac[ID_BYTES:])

    def _mac(self, key_id: bytes, topic: str, key: bytes, content: bytes) -> bytes:
        state = self._states[key_id].copy()
        state.update(b"%d %d %s%s" % (len(topic), len(key), topic.encode(), key))
        state.update(content)
        return state.digest()


def _key_id(key: bytes) -> bytes:
    """Return a short name of a key that reveals nothing about it."""
    return blake2b(key, digest_size=ID_BYTES, person=_ID_PERSON).digest()
