"""The whole engine in plain Python, one record after the other: what a worker's state and decisions must be.

An `EngineOracle` takes the records of a topic's partitions, each partition's in offset order, from any reader: as octets of
fetches (`take_fetch`) or record by record (`take`). It then knows, per partition, how many events were counted, how many
records were poison, every row, and the decisions; `Decided.differences` holds one of these against the JSON on the decisions
topic. It joins `records`, `jsonscan` and `detector`; nothing of it is compiled. About 30,000 records a second.

Whole numbers must be equal. A float may differ by a unit in the last place of a float32, or by the rounding of the JSON.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any, NamedTuple

from tests.oracles.bounded import BoundedOracle
from tests.oracles.guard import Guard
from tests.oracles.jsonscan import IPV4_KEYS, OUTCOMES, Reading, reading
from tests.oracles.pools import Crowds
from tests.oracles.records import records_of
from tests.oracles.senders import SCALES
from tests.oracles.site import BUDGET_AT_ONE
from tests.oracles.verdicts import Verdict

ONE_ULP = 2.0**-23
BY_LENGTH = ("1m", "10m", "1h", "6h", "24h")  # as evidence names them
JSON_DIGITS = 3
MASK32 = (1 << 32) - 1


def network_of(key: int, length: int = 0) -> str:
    """The network in CIDR form that a 64-bit key stands for, or its prefix of a length."""
    if key >= IPV4_KEYS:
        return str(IPv4Network((key & MASK32, length or 32), strict=False))
    return str(IPv6Network((key << 64, length or 64), strict=False))


def near(ours: float, theirs: float, digits: int = JSON_DIGITS) -> bool:
    """Equal but for a float32's last place and a rounding to so many digits behind the point."""
    return math.isclose(ours, theirs, rel_tol=ONE_ULP, abs_tol=0.51 * 10.0**-digits)


class Decided(NamedTuple):
    """A decision: what `tests.oracles.detector` says of it, and where it belongs."""

    network: str
    partition: int
    verdict: Verdict

    @property
    def place(self) -> tuple[str, str, int, int]:
        """What tells one decision from another: network, throttle or release, partition, source offset."""
        return self.network, self.verdict.kind, self.partition, self.verdict.offset

    def differences(self, fields: dict[str, Any]) -> list[str]:
        """Where the JSON of a decision says something else; ``fields`` is that JSON."""
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
        found = [f"{name}: {said!r}, not {meant!r}" for name, (said, meant) in exact.items() if said != meant]
        return found + (self._far_numbers(fields) if verdict.kind == "throttle" else [])

    def _far_numbers(self, fields: dict[str, Any]) -> list[str]:
        verdict, evidence = self.verdict, fields["evidence"]
        numbers = [
            ("rate_per_min", fields["rate_per_min"], verdict.rate_per_min, 6),
            ("burst", fields["burst"], verdict.burst, JSON_DIGITS),
        ]
        for name, meant in (("counters", verdict.counters), ("limits", verdict.limits), ("peaks", verdict.peaks)):
            finite = {scale: value for scale, value in zip(SCALES, meant, strict=True) if math.isfinite(value)}
            said = [evidence.get(name, {}).get(scale, 0.0) for scale in finite]
            numbers += [(name, one, other, JSON_DIGITS) for one, other in zip(said, finite.values(), strict=True)]
        crowd = [evidence.get("pool", {}).get(name, 0.0) for name in ("new_senders", "messages", "usual")]
        numbers += [("pool", one, other, JSON_DIGITS) for one, other in zip(crowd, verdict.crowd, strict=True)]
        return [
            f"{name}: {said}, not {meant}" for name, said, meant, digits in numbers if not near(said, meant, digits)
        ]


@dataclass(slots=True)
class PartitionReplay:
    """One partition as the oracle has it. ``offset``: the last one taken, -1 before the first; ``detector``: rows, cohort and
    clock."""

    number: int
    detector: BoundedOracle
    decisions: list[Decided]
    events: int = 0
    poison: int = 0
    offset: int = -1

    def take(self, offset: int, timestamp_ms: int, value: bytes | None) -> None:
        """Take one record; ``timestamp_ms`` is negative for a record without a time of its own."""
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
        """How many decisions were throttles, or releases."""
        return sum(decided.verdict.kind == kind for decided in self.decisions)


class EngineOracle:
    """All partitions of a topic. ``threshold`` is T, ``window_ms`` how far an event's stamp may lie from its record's,
    ``rows`` what a partition's table holds; one of several partitions asks for its share of a crowd's 24 new keys and two
    more, three at least; the guard's cap is 20 budgets."""

    def __init__(self, partitions: int, threshold: float, window_ms: int, rows: int = 1 << 20) -> None:
        keys, most = 24.0 if partitions == 1 else max(3.0, 24.0 / partitions + 2.0), max(64, rows // 16)
        cap = min(0.5, round(20 * BUDGET_AT_ONE * threshold ** (-1 / 1.2), 9))
        detectors = [
            BoundedOracle(threshold, window_ms, rows, Crowds((keys, keys), most), Guard(cap)) for _ in range(partitions)
        ]
        self.partitions = [PartitionReplay(i, detector, []) for i, detector in enumerate(detectors)]

    def take(self, partition: int, offset: int, timestamp_ms: int, value: bytes | None) -> None:
        """Take a partition's next record."""
        self.partitions[partition].take(offset, timestamp_ms, value)

    def take_fetch(self, partition: int, octets: bytes) -> None:
        """Take the records of a fetch, as the broker sent it, that weren't taken yet."""
        for record in records_of(octets, self.partitions[partition].offset + 1):
            self.take(partition, record.offset, record.timestamp_ms, record.value)

    @property
    def decisions(self) -> dict[tuple[str, str, int, int], Decided]:
        """All decisions by their `Decided.place`, in order within each partition."""
        return {decided.place: decided for partition in self.partitions for decided in partition.decisions}
