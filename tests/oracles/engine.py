"""The whole engine in plain Python, one record after the other: the state and decisions that a worker must have.

An `EngineOracle` applies the records of a topic's partitions, each partition's in offset order: as bytes of fetches
(`apply_fetch`) or record by record (`apply`). Per partition it then has the number of events and of poison records, every
row, and the decisions. `Decided.differences` compares one of these with the JSON on the decisions topic. It joins `records`,
`jsonscan` and `detector`; none of it is compiled. About 30,000 records a second.

Whole numbers must be equal. A float may differ by a unit in the last place of a float32, or by the rounding of the JSON.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any, NamedTuple

from tests.oracles.bounded import BoundedOracle
from tests.oracles.breaker import BreakerOracle
from tests.oracles.jsonscan import IPV4_KEYS, OUTCOMES, Reading, reading
from tests.oracles.pools import OraclePools
from tests.oracles.records import records_of
from tests.oracles.senders import SCALES
from tests.oracles.site import BUDGET_AT_ONE
from tests.oracles.verdicts import Verdict

ONE_ULP = 2.0**-23
BY_LENGTH = ("1m", "10m", "1h", "6h", "24h")  # as evidence names them
JSON_DIGITS = 3
MASK32 = (1 << 32) - 1


def network_of(key: int, length: int = 0) -> str:
    """Return the network of a 64-bit key as CIDR, or its prefix of a length."""
    if key >= IPV4_KEYS:
        return str(IPv4Network((key & MASK32, length or 32), strict=False))
    return str(IPv6Network((key << 64, length or 64), strict=False))


def near(ours: float, theirs: float, digits: int = JSON_DIGITS) -> bool:
    """Return True if equal up to a float32's last digit and a rounding to `digits` decimals."""
    return math.isclose(ours, theirs, rel_tol=ONE_ULP, abs_tol=0.51 * 10.0**-digits)


class Decided(NamedTuple):
    """A verdict of `tests.oracles.detector` with its network and partition."""

    network: str
    partition: int
    verdict: Verdict

    @property
    def identity(self) -> tuple[str, str, int, int]:
        """Network, throttle or release, partition and source offset: no two decisions share them."""
        return self.network, self.verdict.kind, self.partition, self.verdict.offset

    def differences(self, fields: dict[str, Any]) -> list[str]:
        """Return the differences from the JSON of a decision, a line each."""
        verdict, source = self.verdict, fields["source"]
        exact: dict[str, tuple[object, object]] = {
            "network": (fields["network"], self.network),
            "verdict": (fields["verdict"], verdict.kind),
            "issued": (fields["issued"], verdict.issued_ms),
            "until": (fields["until"], verdict.until_ms),
            "partition": (source["partition"], self.partition),
            "offset": (source["offset"], verdict.offset),
        }
        if verdict.kind == "throttle":
            evidence = fields["evidence"]
            within = network_of(verdict.key, verdict.within) if verdict.within else None
            exact |= {
                "reason": (fields["reason"], verdict.reason),
                "scales": (tuple(evidence["scales"]), tuple(name for name in BY_LENGTH if name in verdict.scales)),
                "active_days": (evidence.get("active_days", 0), verdict.active_days),
                "first_seen": (evidence.get("first_seen", 0), verdict.first_seen_ms),
                "within": (evidence.get("within"), within),
                "pool": ("pool" in evidence, verdict.pool > 0),
            }
        differing = [f"{name}: {ours!r}, not {theirs!r}" for name, (ours, theirs) in exact.items() if ours != theirs]
        return differing + (self._far_numbers(fields) if verdict.kind == "throttle" else [])

    def _far_numbers(self, fields: dict[str, Any]) -> list[str]:
        verdict, evidence = self.verdict, fields["evidence"]
        numbers = [
            ("rate_per_min", fields["rate_per_min"], verdict.rate_per_min, 6),
            ("burst", fields["burst"], verdict.burst, JSON_DIGITS),
        ]
        for name, values in (("counters", verdict.counters), ("limits", verdict.limits), ("peaks", verdict.peaks)):
            finite = {scale: value for scale, value in zip(SCALES, values, strict=True) if math.isfinite(value)}
            ours = [evidence.get(name, {}).get(scale, 0.0) for scale in finite]
            numbers += [(name, one, other, JSON_DIGITS) for one, other in zip(ours, finite.values(), strict=True)]
        pool = [evidence.get("pool", {}).get(name, 0.0) for name in ("new_senders", "messages", "usual")]
        numbers += [("pool", one, other, JSON_DIGITS) for one, other in zip(pool, verdict.pool_evidence, strict=True)]
        return [
            f"{name}: {ours}, not {theirs}" for name, ours, theirs, digits in numbers if not near(ours, theirs, digits)
        ]


@dataclass(slots=True)
class PartitionReplay:
    """One partition of the oracle."""

    number: int
    detector: BoundedOracle  # rows, cohort and clock
    decisions: list[Decided]
    events: int = 0
    poison: int = 0
    offset: int = -1  # of the last record applied

    def apply(self, offset: int, timestamp_ms: int, value: bytes | None) -> None:
        """Apply one record; `timestamp_ms` is negative for a record without a time of its own."""
        assert offset > self.offset, f"offset {offset} after {self.offset}"
        self.offset = offset
        event = reading(value)
        if not isinstance(event, Reading):
            self.poison += 1
            return
        self.events += 1
        record_ms = None if timestamp_ms < 0 else timestamp_ms
        outcome = OUTCOMES[event.outcome]
        for verdict in self.detector.apply(offset, event.ts_ms, record_ms, event.key, event.messages, outcome):
            self.decisions.append(Decided(network_of(verdict.key, verdict.prefix), self.number, verdict))

    def count(self, kind: str) -> int:
        """Return the number of throttles, or of releases."""
        return sum(decided.verdict.kind == kind for decided in self.decisions)


class EngineOracle:
    """All partitions of a topic.

    In one of several partitions a pool is suspicious at its share of 24 new senders and two more, three at least. The
    breaker tolerates a share of 20 budgets.
    """

    def __init__(self, partitions: int, threshold: float, window_ms: int, rows: int = 1 << 20) -> None:
        keys, pools = 24.0 if partitions == 1 else max(3.0, 24.0 / partitions + 2.0), max(64, rows // 16)
        share = min(0.5, round(20 * BUDGET_AT_ONE * threshold ** (-1 / 1.2), 9))
        detectors = [
            BoundedOracle(threshold, window_ms, rows, OraclePools((keys, keys), pools), BreakerOracle(share))
            for _ in range(partitions)
        ]
        self.partitions = [PartitionReplay(i, detector, []) for i, detector in enumerate(detectors)]

    def apply(self, partition: int, offset: int, timestamp_ms: int, value: bytes | None) -> None:
        """Apply a partition's next record."""
        self.partitions[partition].apply(offset, timestamp_ms, value)

    def apply_fetch(self, partition: int, fetched: bytes) -> None:
        """Apply the records of a fetch, as the broker sent it, that weren't applied yet."""
        for record in records_of(fetched, self.partitions[partition].offset + 1):
            self.apply(partition, record.offset, record.timestamp_ms, record.value)

    @property
    def decisions(self) -> dict[tuple[str, str, int, int], Decided]:
        """All decisions by their `Decided.identity`, in order within each partition."""
        return {decided.identity: decided for partition in self.partitions for decided in partition.decisions}
