"""Pools: names, the table of pools, and bounds on attackers."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest

from engine.detector.layout import POOL, STORED, empty_pools
from engine.detector.pool_table import drain_tombstones, restore_pools
from engine.detector.pools import min_new_keys, pool_text
from engine.detector.throttle import Policy
from engine.state.partition import Partition
from tests.oracles.hashing import splitmix
from tests.oracles.pools import pool_of
from tests.support.kernels import use_one_pool
from tests.support.runs import pools_of, used_pools
from tests.support.sequences import DAY_MS, HOUR_MS, IPV4_TAG, START_MS, WINDOW_MS, Event, columns_of, far_apart
from topics.columns.scan import ACCEPTED
from topics.keys import key_of

NARROW, WIDE = 1, 2
MIDNIGHT_MS = START_MS // DAY_MS * DAY_MS + DAY_MS


@pytest.mark.parametrize(
    ("address", "level", "network"),
    [
        ("192.0.2.7", NARROW, "192.0.2.0/24"),
        ("192.0.2.7", WIDE, "192.0.0.0/16"),
        ("2001:db8:1:2fff::9", NARROW, "2001:db8:1:2f00::/56"),
        ("2001:db8:1:2fff::9", WIDE, "2001:db8:1::/48"),
    ],
)
def test_pool_text_is_its_network(address: str, level: int, network: str) -> None:
    assert pool_text(pool_of(key_of(address), level)) == network


def test_partition_needs_its_share_of_new_keys_and_two_more_but_three_at_least() -> None:
    assert [min_new_keys(partitions) for partitions in (1, 2, 4, 8, 32)] == [24, 14, 8, 5, 3]


def of_one_set(count: int) -> list[int]:
    """Return keys that share their eight slots in the smallest table."""
    return list(islice((key for key in range(1, 10_000) if splitmix(key, 0) % 64 // 8 == 3), count))


def test_new_pool_replaces_the_one_of_its_eight_that_was_used_longest_ago() -> None:
    pools, keys = empty_pools(1024), of_one_set(10)

    for used, key in enumerate([*keys[:8], keys[0], keys[8], keys[0], keys[9]]):
        number = use_one_pool(pools, np.uint64(key), used, 0)
        assert pools.rows["key"][number] == pools.keys[number] == key
        assert use_one_pool(pools, np.uint64(key), used, number) == number
    assert used_pools(pools)["key"].tolist() == [keys[0], keys[8], keys[9], *keys[3:8]]
    assert pools.cursor["rows"][0] == 8


def test_only_stored_pools_get_tombstones_when_recycled() -> None:
    pools, keys = empty_pools(1024), of_one_set(17)
    for used, key in enumerate(keys[:8]):
        use_one_pool(pools, np.uint64(key), used, 0)
    pools.rows["flags"] |= STORED

    for used, key in enumerate(keys[8:], 8):
        use_one_pool(pools, np.uint64(key), used, 0)

    assert drain_tombstones(pools).tolist() == keys[:8]
    assert drain_tombstones(pools).tolist() == []


@pytest.mark.parametrize("portion", [1, 7, 250, 300])
def test_restore_keeps_the_pools_used_last_for_any_portions(portion: int) -> None:
    used = np.random.default_rng(5).permutation(200)
    pools, records = empty_pools(1024), np.zeros(300, POOL)
    records["key"] = np.arange(300) % 200 + 1
    records["last_use"] = used[np.arange(300) % 200] + 1000 * (np.arange(300) >= 200)
    for first in range(0, 300, portion):
        restore_pools(pools, records[first : first + portion])
    latest = sorted(((int(record["last_use"]), int(record["key"])) for record in records[100:]), reverse=True)
    sets: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for each in latest:
        sets[splitmix(each[1], 0) % 64 // 8].append(each)
    wanted = sorted(each for ways in sets.values() for each in ways[:8])

    restored = used_pools(pools)

    assert sorted(zip(restored["last_use"].tolist(), restored["key"].tolist(), strict=True)) == wanted
    assert set(restored["flags"].tolist()) == {STORED}
    assert drain_tombstones(pools).tolist() == []


class Site:
    """A partition whose site is a month old and has learned from its newcomers."""

    def __init__(self) -> None:
        self.partition = Partition(Policy(1.0, WINDOW_MS, 0, 1), 1 << 14)
        self.offset = 0
        self.send([(MIDNIGHT_MS + i * DAY_MS // 40, far_apart(i), 1 + i % 3) for i in range(1200)])
        self.now_ms = MIDNIGHT_MS + 30 * DAY_MS

    def send(self, mails: list[tuple[int, int, int]]) -> Any:
        events = [Event(self.offset + i, *mail[:1], -1, *mail[1:], ACCEPTED) for i, mail in enumerate(sorted(mails))]
        self.offset += len(events)
        return self.partition.apply(columns_of(events), 0, len(events))

    def snowshoe(self, day: int, first: int, each: int = 30) -> Any:
        """Send three hours of mail of 256 new addresses in sixteen /24s of 10.9.0.0/16. Return the verdicts."""
        start_ms = self.now_ms + day * DAY_MS
        base = IPV4_TAG + 0x0A090000 + first
        keys = [base + 256 * (i % 16) + i // 16 for i in range(256)]
        return self.send(
            [(start_ms + i * 2000 + n * 3 * HOUR_MS // each, key, 1) for n in range(each) for i, key in enumerate(keys)]
        )

    def usual_volume(self, key: int, level: int) -> float:
        pools, site = pools_of(self.partition), self.partition.state.site[0]
        pool = pools[pools["key"] == pool_of(key, level)][0]
        own = pool["mean"] + 1.2 * math.sqrt(pool["variance"])
        return math.expm1(max(own, site["pool_mean"][level - 1] + 1.2 * site["pool_deviation"][level - 1]))


def test_every_address_of_a_snowshoe_is_throttled() -> None:
    site = Site()
    throttles = [verdict for verdict in site.snowshoe(0, 0) if verdict["kind"] == 1]

    pool = pool_of(IPV4_TAG + 0x0A090000, WIDE)

    assert {int(verdict["pool"]) for verdict in throttles} == {pool}
    assert len({int(verdict["key"]) for verdict in throttles}) == 256
    assert {float(verdict["rate_per_h"]) for verdict in throttles} == {0.25}
    assert all(verdict["until_ms"] - verdict["issued_ms"] == HOUR_MS for verdict in throttles)

    late = [verdict for verdict in throttles if verdict["issued_ms"] > throttles[0]["issued_ms"] + 2 * HOUR_MS]

    assert late  # when none of them is new any longer


def test_established_neighbour_of_a_snowshoe_is_not_throttled() -> None:
    site, neighbour = Site(), IPV4_TAG + 0x0A0900FE
    site.send([(site.now_ms - day * DAY_MS, neighbour, 5) for day in range(1, 7)])
    verdicts = site.send([(site.now_ms + i * 60_000, neighbour, 1) for i in range(12)])

    verdicts = np.concatenate([verdicts, site.snowshoe(0, 0), site.send([(site.now_ms + 3 * HOUR_MS, neighbour, 1)])])

    assert neighbour not in verdicts["key"].tolist()


def test_snowshoe_does_not_raise_its_own_bound() -> None:
    """Not on its day. A day with an alarm is learned as the usual volume, which widens the deviation a little."""
    site, key = Site(), IPV4_TAG + 0x0A090000
    site.snowshoe(0, 0, each=1)
    before = site.usual_volume(key, WIDE)
    learned = site.partition.state.site["pool_hist"].copy()

    site.snowshoe(0, 0)

    assert site.usual_volume(key, WIDE) == before

    moved = np.abs(site.partition.state.site["pool_hist"] - learned).sum(axis=2)

    assert moved[0, 1] <= 2  # one unit moved from a bin to another

    bounds = [before]
    for day in range(1, 8):
        site.snowshoe(day, 16 * day)
        bounds.append(site.usual_volume(key, WIDE))

    assert all(after <= 1.3 * earlier for earlier, after in pairwise(bounds)), bounds
    assert bounds[-1] < 4 * before


def test_one_snowshoe_a_day_does_not_move_the_sites_usual_volume() -> None:
    site = Site()
    before = [site.usual_volume(far_apart(1199), level) for level in (NARROW, WIDE)]
    for day in range(10):
        site.snowshoe(day, 16 * day)
        site.send(
            [(site.now_ms + day * DAY_MS + i * 1000, far_apart(2000 + 32 * day + i), 1 + i % 3) for i in range(32)]
        )

    after = [site.usual_volume(far_apart(2000 + 319), level) for level in (NARROW, WIDE)]

    assert all(late <= 1.3 * early for early, late in zip(before, after, strict=True)), (before, after)


def test_no_sender_is_new_in_a_sites_first_two_days() -> None:
    site = Site()

    site.partition.state.site["first_ms"] = site.now_ms - DAY_MS

    assert not len(site.snowshoe(0, 0))


def test_pool_that_shifts_its_load_among_its_members_is_not_throttled() -> None:
    """64 addresses of one /26 send 640 messages a day, in other shares each day."""
    site, draw, base = Site(), np.random.default_rng(4), IPV4_TAG + 0xC6336400

    verdicts = [
        verdict
        for day in range(10)
        for verdict in site.send(
            [
                (site.now_ms + day * DAY_MS + int(at_ms), base + int(member), 1)
                for at_ms, member in zip(
                    draw.integers(0, DAY_MS, 640), draw.choice(64, 640, p=draw.dirichlet(np.ones(64))), strict=True
                )
            ]
        )
    ]

    assert verdicts == []
