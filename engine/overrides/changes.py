"""Plan the records that an operator's order writes, from the overrides of the topic. Pure.

A network has one override, so an order replaces the override of exactly its network. Networks around it are considered too:

- a network that is exempt already isn't released, and isn't throttled, as edges would let its mail pass;
- an exemption ends the manual throttles of smaller networks in it.

An order that isn't executed becomes a refusal that says why and what to do; the other orders of the same list still are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from engine.decisions.override_index import OverrideIndex
from topics.networks import network_of
from topics.overrides import CONNECTOR, EXEMPT, EXEMPT_NAME, RELEASE, THROTTLE, Override, OverrideRecord, Removal
from topics.plausibility import SHORTEST_MANUAL_PREFIX
from topics.words import override_text

ADDS, CHANGES, KEEPS, ENDS, REFUSES = "add", "change", "keep", "end", "refuse"
SAME = ("kind", "action", "until", "owner", "reason", "relay", "rate_per_min", "burst", "forced")


@dataclass(frozen=True, slots=True)
class OverrideChange:
    """One line of a plan."""

    kind: str  # ADDS, CHANGES, KEEPS, ENDS or REFUSES
    network: str
    record: OverrideRecord | None  # to be written, None if there is none
    text: str  # for people


def plan_overrides(wanted: Iterable[Override], index: OverrideIndex) -> list[OverrideChange]:
    """Return the changes that make these overrides, in their order, and add their records to `index`.

    An override's time of creation is the time of the order.
    """
    changes: list[OverrideChange] = []
    for override in wanted:
        for change in _plan_override(override, index):
            if change.record is not None:
                index.add(change.record)
            changes.append(change)
    return changes


def plan_removals(networks: Iterable[str], index: OverrideIndex, template: Removal) -> list[OverrideChange]:
    """Return the changes that end the exemptions of `networks`, and add their records to `index`.

    The removals are copies of `template`, which lacks only its network.
    """
    changes = []
    for network in networks:
        current = index.unexpired(network, template.created)
        if current is None or current.kind == THROTTLE:
            reason = "nothing is exempt there" if current is None else "it has a manual throttle"
            hint = "`tidegate connector list` shows all" if current is None else "give `tidegate release` to end that"
            changes.append(OverrideChange(REFUSES, network, None, f"{reason}: {hint}"))
            continue
        record = replace(template, network=network)
        index.add(record)
        changes.append(OverrideChange(ENDS, network, record, f"was {override_text(current)}"))
    return changes


def networks_of_names(names: Iterable[str], relays: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    """Yield (network, relay) for each name: the networks of an announced relay, else the name itself and no relay."""
    for name in names:
        if name in relays:
            yield from ((network, name) for network in relays[name])
        else:
            yield name, ""


def _plan_override(override: Override, index: OverrideIndex) -> list[OverrideChange]:
    network, at_ms = override.network, override.created
    refusal = _refusal(override, index)
    if refusal:
        return [OverrideChange(REFUSES, network, None, refusal)]
    current = index.unexpired(network, at_ms)
    if current is not None and all(getattr(current, name) == getattr(override, name) for name in SAME):
        return [OverrideChange(KEEPS, network, None, f"is {override_text(current)} already")]
    inner = index.throttles_within(network, at_ms) if override.kind == EXEMPT else []
    reason = f"under {network}: {override.reason}"
    ends = [
        OverrideChange(
            ENDS, ended.network, Removal(ended.network, at_ms, reason, override.by), f"was {override_text(ended)}"
        )
        for ended in inner
    ]
    if current is None:
        return [*ends, OverrideChange(ADDS, network, override, override_text(override))]
    text = f"{override_text(override)}, was {override_text(current)}"
    return [*ends, OverrideChange(CHANGES, network, override, text)]


def _refusal(override: Override, index: OverrideIndex) -> str:
    """Return why an override is refused, "" if it isn't."""
    at_ms = override.created
    if not override.lasts(at_ms):
        return "its end is in the past: give a later --until"
    if not override.forced and override.kind != EXEMPT_NAME:
        network = network_of(override.network)
        if network.length < SHORTEST_MANUAL_PREFIX[network.bits]:
            shortest = SHORTEST_MANUAL_PREFIX[network.bits]
            return f"it is wider than a /{shortest}: give --force to confirm that so many addresses are meant"
    if override.kind == EXEMPT_NAME or override.action == CONNECTOR:
        return ""
    around = index.unexpired_around(override.network, at_ms)
    exemptions = [
        other
        for other in around
        if (other.action == CONNECTOR if other.network == override.network else other.kind == EXEMPT)
    ]
    if not exemptions:
        return ""
    exemption = exemptions[0]
    text = f"{exemption.network} is {override_text(exemption)}"
    if override.action == RELEASE:
        outlasts = exemption.until is None or (override.until is not None and exemption.until >= override.until)
        return f"{text}: nothing throttles it" if outlasts else ""
    return f"{text}, so edges would let it pass: remove that first"
