"""Small scenes of mail, and the decisions that they lead to as bytes: the source of the golden files.

``python -m tests.support.scenes`` writes them again. A change in them affects every reader of the topic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from engine.decisions.compose import Composer, ReplyTexts
from engine.decisions.shadow import ShadowRules
from engine.detector.throttle import Policy
from engine.state.partition import Partition
from tests.support.sequences import DAY_MS, HOUR_MS, WINDOW_MS, Event, columns_of
from topics.columns.scan import ACCEPTED, REJECTED
from topics.decisions import POOL, PROBATION, VOLUME, Decision, decode_decision, encode_decision
from topics.keys import key_of
from topics.words import decision_text

FOLDER = Path(__file__).parents[1] / "golden"
DECISIONS, SENTENCES = FOLDER / "decisions.ndjson", FOLDER / "sentences.txt"
MONDAY_MS = 1_767_571_200_000
TEXT = "Server busy. Please try again later from [{ip}]. {network} may come back in {retry_s} s."
STATUS = {VOLUME: "4.7.500", PROBATION: "4.7.501", POOL: "4.7.502"}
COMPOSER = Composer("connections", "sha256:0123456789abcdef", ReplyTexts(STATUS, TEXT))

SHADED = replace(COMPOSER, shadow=ShadowRules(reasons=frozenset({PROBATION})))

Mail = tuple[int, str, int, int]  # hours since Monday, address, messages, outcome


def newcomer() -> Iterable[Mail]:
    """An address that was never seen sends 600 messages in an hour; the last message, two days on, ends its throttle."""
    yield from ((0, "192.0.2.7", 60, ACCEPTED) for _ in range(10))
    yield 48, "198.51.100.1", 1, ACCEPTED


def probation() -> Iterable[Mail]:
    """Two days of 40 messages, on the third 400."""
    yield from ((day * 24, "203.0.113.9", 40, ACCEPTED) for day in range(2))
    yield 48, "203.0.113.9", 400, ACCEPTED


def known_ipv6() -> Iterable[Mail]:
    """Three weeks of 30 messages a day from one /64, then 3,000 from another address of it."""
    yield from ((day * 24, "2001:db8:1:2::25", 30, ACCEPTED) for day in range(21))
    yield 21 * 24, "2001:db8:1:2:ffff::1", 3000, ACCEPTED


def rejected_stranger() -> Iterable[Mail]:
    """An address whose mail is only ever refused: each message weighs six."""
    yield from ((0, "203.0.113.77", 1, REJECTED) for _ in range(20))


def flooded_prefix() -> Iterable[Mail]:
    """Six days of a regular, then two thousand addresses of its /16, more than a table has rows, and the regular again."""
    yield from ((day * 24, "198.51.100.10", 5, ACCEPTED) for day in range(6))
    yield from ((145, f"198.51.{i % 256}.{i // 256}", 1, ACCEPTED) for i in range(2000))
    yield 145, "198.51.100.10", 1, ACCEPTED
    yield 148, "198.51.100.10", 1, ACCEPTED


def snowshoe() -> Iterable[Mail]:
    """On a site of three days 25 new addresses of one /16 send a message each; the last one raises the alarm of their pool."""
    yield 0, "198.51.100.1", 1, ACCEPTED
    yield from ((72, f"100.64.{i}.7", 1, ACCEPTED) for i in range(25))


WITHOUT_POOLS = frozenset({flooded_prefix})  # so that the prefix is throttled, not the senders that have rows
SCENES = (newcomer, probation, known_ipv6, rejected_stranger, flooded_prefix, snowshoe)


def decisions_of(mails: Iterable[Mail], policy: Policy, composer: Composer = COMPOSER) -> list[Decision]:
    """The decisions of a fresh partition on these mails."""
    partition = Partition(policy, 1024)
    events = [
        Event(offset, MONDAY_MS + hour * HOUR_MS + offset, -1, key_of(ip), messages, outcome)
        for offset, (hour, ip, messages, outcome) in enumerate(mails)
    ]
    return [composer.decision(verdict, 3) for verdict in partition.apply(columns_of(events), 0, len(events))]


def lines() -> list[bytes]:
    """The decisions of all scenes, and of the first one in shadow."""
    policy = Policy(1.0, WINDOW_MS, 0, 1)
    pools_off = policy._replace(pool_keys=(0.0, 0.0))
    made = [
        decision
        for scene in SCENES
        for decision in decisions_of(scene(), pools_off if scene in WITHOUT_POOLS else policy)
    ]
    return [encode_decision(decision) for decision in [*made, *decisions_of(newcomer(), policy, SHADED)]]


def sentences() -> list[str]:
    """The same in words."""
    return [decision_text(decode_decision(line)) for line in lines()]


if __name__ == "__main__":
    assert MONDAY_MS % DAY_MS == 0
    DECISIONS.write_bytes(b"".join(line + b"\n" for line in lines()))
    SENTENCES.write_text("".join(sentence + "\n" for sentence in sentences()))
