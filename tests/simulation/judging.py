"""The checks of a simulated run: a partition's state equals the oracle's at the same offset, and so do readers' decisions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import Any

import numpy as np
import orjson

from engine.detector.layout import COUNTED, PASSED, THROTTLED
from engine.state.partition import Partition
from tests.oracles.breaker import BreakerOracle
from tests.oracles.engine import ONE_ULP, EngineOracle, PartitionReplay
from tests.simulation.source import SourceTopic
from tests.support.runs import pools_of, rows_of
from tests.support.twins import BUDGET_FIELDS, breaker_pairs
from topics.decisions import RELEASE_HEADER
from topics.overrides import Override

EXACT = ("last_ms", "until_ms", "first_seen_s", "day", "active_days", "accepted", "rejected", "deferred", "bin")
FLOATS = ("typical", "rate_per_h")
FLOATS_BY_SCALE = ("counter", "peak", "memory")
POOL_FIELDS = ("last_ms", "alarm_ms", "last_use", "day", "bin", "volume", "keys", "peak", "mean", "variance", "weight")
WINDOW_MS = 86_400_000
Published = tuple[bytes | None, bytes | None, dict[str, bytes]]


def oracle_of(source: SourceTopic, threshold: float, rows: int) -> EngineOracle:
    """Return the oracle after a whole topic."""
    oracle = EngineOracle(len(source.partitions), threshold, WINDOW_MS, rows)
    for number, partition in enumerate(source.partitions):
        for offset, record in partition.records:
            oracle.apply(number, offset, record.timestamp_ms, record.value)
    return oracle


def replay_of(source: SourceTopic, number: int, threshold: float, rows: int, up_to: int) -> PartitionReplay:
    """Return the oracle's partition after its records up to an offset."""
    replay = EngineOracle(len(source.partitions), threshold, WINDOW_MS, rows).partitions[number]
    for offset, record in source.partitions[number].records:
        if offset <= up_to:
            replay.apply(offset, record.timestamp_ms, record.value)
    return replay


def near(ours: Iterable[float], theirs: Iterable[float], tolerance: float = ONE_ULP) -> bool:
    """Return True if the values are equal up to the last digit."""
    return all(math.isclose(one, other, rel_tol=tolerance) for one, other in zip(ours, theirs, strict=True))


def state_differences(partition: Partition, replay: PartitionReplay) -> list[str]:
    """Return a line for each difference between a partition and the oracle."""
    rows, site, detector = rows_of(partition), partition.state.site[0], replay.detector
    keys: list[int] = rows["key"].tolist()
    if keys != sorted(detector.rows):
        return [f"keys: {len(keys)}, not {len(detector.rows)}: {sorted(set(keys) ^ set(detector.rows))}"]
    theirs = [detector.rows[key] for key in keys]
    found = [
        f"{name} of {key}: {ours}, not {getattr(row, name)}"
        for name in EXACT
        for key, ours, row in zip(keys, rows[name].tolist(), theirs, strict=True)
        if ours != getattr(row, name)
    ]
    for name in FLOATS + FLOATS_BY_SCALE:
        for key, ours, row in zip(keys, rows[name].tolist(), theirs, strict=True):
            meant = getattr(row, name)
            if not (near(ours, meant) if name in FLOATS_BY_SCALE else near([ours], [meant])):
                found.append(f"{name} of {key}: {ours}, not {meant}")
    for key, ours, row in zip(keys, rows["tokens"].tolist(), theirs, strict=True):
        if not math.isclose(ours, row.tokens, rel_tol=ONE_ULP, abs_tol=ONE_ULP * max(1.0, row.rate_per_h)):
            found.append(f"tokens of {key}: {ours}, not {row.tokens}")
    flags: list[int] = rows["flags"].tolist()
    flagged = {
        "other newcomers were counted in the cohort": (COUNTED, [row.counted for row in theirs]),
        "other throttles are live": (THROTTLED, [key in detector.live for key in keys]),
        "others may pass": (PASSED, [row.passes for row in theirs]),
    }
    found += [text for text, (bit, meant) in flagged.items() if [bool(one & bit) for one in flags] != meant]
    found += _site_differences(site, replay) + _untracked_differences(partition, replay)
    return found + _pool_differences(partition, replay)


def _untracked_differences(partition: Partition, replay: PartitionReplay) -> list[str]:
    admission_filter, prefixes = replay.detector.admission_filter, replay.detector.prefixes
    found = []
    bits = np.unpackbits(partition.state.admission_filter["bits"][0].view(np.uint8), bitorder="little")
    keys = int(partition.state.admission_filter["keys"][0])
    if (keys, set(np.flatnonzero(bits).tolist())) != (admission_filter.keys, admission_filter.bits):
        found.append("another admission filter")
    used = partition.state.prefixes[partition.state.prefixes["last_ms"] > 0]
    columns = (used[name].tolist() for name in ("key", "until_ms", "demand", "rate_per_h"))
    ours = sorted(zip(*columns, strict=True))
    theirs = sorted(
        (slot.key, slot.until_ms, slot.demand, slot.rate_per_h)
        for slots in prefixes.sets.values()
        for slot in slots
        if slot.last_ms
    )
    if len(ours) != len(theirs) or not all(near(one, other) for one, other in zip(ours, theirs, strict=True)):
        found.append(f"prefixes {ours}, not {theirs}")
    return found


def _pool_differences(partition: Partition, replay: PartitionReplay) -> list[str]:
    pools, theirs = pools_of(partition), replay.detector.pools.pools
    if pools["key"].tolist() != sorted(theirs, key=lambda key: theirs[key].last_use):
        return [f"pools: {len(pools)}, not {len(theirs)}, or in another order of use"]
    return [
        f"{name} of pool {pool['key']}: {pool[name]}, not {getattr(theirs[int(pool['key'])], name)}"
        for pool in pools
        for name in POOL_FIELDS
        if not near([float(pool[name])], [getattr(theirs[int(pool["key"])], name)])
    ]


def _site_differences(site: Any, replay: PartitionReplay) -> list[str]:
    detector, cohort = replay.detector, replay.detector.cohort
    pairs = {
        "events": (int(site["events"]), replay.events),
        "poison": (int(site["poison"]), replay.poison),
        "throttles": (int(site["throttles"]), replay.count("throttle")),
        "releases": (int(site["releases"]), replay.count("release")),
        "late": (int(site["late"]), detector.late),
        "clock": (int(site["clock_ms"]), max(detector.clock_ms, 0)),
        "first": (int(site["first_ms"]), cohort.first_ms),
        "shadows": (int(site["suppressed"]), detector.suppressed),
        "held today": (float(site["budget_day_deferred"]), detector.budget.day_deferred),
        "new keys": (int(site["cohort_new_keys"]), cohort.new_keys),
        "untracked": (int(site["untracked"]), detector.untracked),
        "evicted": (int(site["evicted"]), detector.evicted),
        "horizon": (int(site["eviction_horizon_ms"]), detector.horizon_ms),
        "next sweep": (int(site["eviction_retry_ms"]), detector.retry_ms),
        "miskeyed": (int(site["miskeyed"]), 0),
    } | breaker_pairs(site, detector.breaker or BreakerOracle(0.0))
    found = [f"{name}: {ours}, not {meant}" for name, (ours, meant) in pairs.items() if ours != meant]
    if not near(site["cohort_hist"].ravel().tolist(), [held for scale in cohort.hist for held in scale], 1e-9):
        found.append("another histogram of newcomers")
    found += [
        f"{ours}: {site[ours]}, not {getattr(detector.budget, theirs)}"
        for ours, theirs in BUDGET_FIELDS.items()
        if not near([float(site[ours])], [getattr(detector.budget, theirs)], 1e-5)
    ]
    if not near(site["cohort_limit"].tolist(), cohort.lnew, 1e-9):
        found.append(f"limits: {site['limit'].tolist()}, not {cohort.lnew}")
    return found


def rank(fields: dict[str, Any]) -> tuple[int, bool]:
    """Return the order of a decision among those of its network: by source offset.

    Of two decisions of one event, the throttle comes after the release. A withdrawal by an override comes after its event.
    """
    return fields["source"]["offset"] + is_override(fields), fields["verdict"] == "throttle"


def is_override(fields: dict[str, Any]) -> bool:
    """Return True if an override caused the decision."""
    return bool(fields.get("reason") == "override")


def covered(network: str, overrides: Iterable[Override], clock_ms: int = 1 << 62) -> bool:
    """Return True if an override that has begun by the clock covers a network."""
    inner = ip_network(network)
    outer = [ip_network(override.network) for override in overrides if override.created <= clock_ms]
    return any(one.version == inner.version and inner.subnet_of(one) for one in outer)  # type: ignore[arg-type]


class ContractReader:
    """A reader of the decisions topic that follows the contract: it ignores a decision older than its own."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Any]] = {}
        self.last: dict[str, dict[str, Any]] = {}
        self.ignored = 0

    def read(self, fields: dict[str, Any]) -> None:
        """Read the next record, as its JSON."""
        held = self.held.get(fields["network"], fields)
        if rank(fields) < rank(held):
            self.ignored += 1
        else:
            self.held[fields["network"]] = fields
        self.last[fields["network"]] = fields

    @property
    def stale(self) -> int:
        """Networks whose last record on the topic isn't their newest; compaction would leave only that record."""
        return sum(rank(self.last[network]) < rank(held) for network, held in self.held.items())


def decision_differences(
    published: Iterable[Published], oracle: EngineOracle, overrides: Sequence[Override], seen: Counter[str]
) -> list[str]:
    """Return the differences between the decisions topic and the oracle with these overrides (exemptions without an end).

    Reports decisions that are unknown, different or missing, and readers with another decision at the end.
    """
    meant, reader, found, identities = oracle.decisions, ContractReader(), [], set()
    clocks_ms = [partition.detector.clock_ms for partition in oracle.partitions]
    for key, value, headers in published:
        fields = orjson.loads(value if value is not None else headers[RELEASE_HEADER])
        identity = (fields["network"], fields["verdict"], fields["source"]["partition"], fields["source"]["offset"])
        if is_override(fields):
            if value is not None or not covered(fields["network"], overrides):
                found.append(f"withdrawn without an override: {identity}")
            identities.add((identity[0], "throttle", *identity[2:]))
            reader.read(fields)
            seen["withdrawals"] += 1
            continue
        decided = meant.get(identity)
        if decided is None or key != fields["network"].encode() or (value is None) != (fields["verdict"] == "release"):
            found.append(f"not the oracle's: {identity}")
            continue
        found += [f"{identity}: {difference}" for difference in decided.differences(fields)]
        identities.add(identity)
        reader.read(fields)
    found += [f"never published: {identity}" for identity in meant if identity not in identities]
    last = {network: (verdict, offset) for network, verdict, _, offset in meant}
    for network, held in reader.held.items():
        clock_ms = clocks_ms[held["source"]["partition"]]
        if covered(network, overrides, clock_ms):
            if held["verdict"] == "throttle" and held["until"] > clock_ms:
                found.append(f"a reader holds {network}, which is exempt")
            continue
        if is_override(held):  # its override was read and has not begun by the partition's clock
            continue
        latest = (held["verdict"], held["source"]["offset"])
        if latest != last[network]:
            found.append(f"a reader holds {latest} of {network}, not {last[network]}")
    seen["older decisions ignored"] += reader.ignored
    seen["older decisions last"] += reader.stale
    return found
