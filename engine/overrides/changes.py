"""What an order changes, before anything is written: pure, from what was said so far and what is wanted now.

A network has one override, so an order replaces what its very network had. Around it: what is exempt already isn't released
again, nobody is throttled under an exemption, and an exemption ends the throttles by hand that lie under it. Whatever isn't
done is a refusal that says why and what to do; one refusal in a list leaves the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network

from topics.overrides import CLIENT, CONNECTOR, EXEMPT, EXEMPT_NAME, HELO, RELEASE, THROTTLE, Override, Removal, Said
from topics.times import moment

ADDS, CHANGES, KEEPS, ENDS, REFUSES = "add", "change", "keep", "end", "refuse"
Net = IPv4Network | IPv6Network
SAME = ("kind", "action", "until", "owner", "reason", "relay", "rate_per_min", "burst")


@dataclass(frozen=True, slots=True)
class Change:
    """One line of what would be done. ``said``: the record to write, None if there is none; ``text``: for people."""

    kind: str
    network: str
    said: Said | None
    text: str


class InForce:
    """The overrides that last at a moment, by network, with those around a network and those under it."""

    def __init__(self, said: Iterable[Said], now_ms: int) -> None:
        self.now_ms = now_ms
        self._held: dict[str, Override] = {}
        for one in said:
            self.take(one)

    def take(self, said: Said) -> None:
        """What was said next."""
        if isinstance(said, Override) and said.lasts(self.now_ms):
            self._held[said.network] = said
        else:
            self._held.pop(said.network, None)

    def all(self) -> Iterator[Override]:
        """All of them, networks before names, in order."""
        yield from sorted(self._held.values(), key=lambda one: _order(one.network))

    def of(self, network: str) -> Override | None:
        """The override of exactly this network."""
        return self._held.get(network)

    def covering(self, network: str) -> list[Override]:
        """The overrides that hold for a network, the smallest first."""
        own = self.of(network)
        return ([] if own is None else [own]) + list(self.around(network))

    def around(self, network: str) -> Iterator[Override]:
        """The overrides of larger networks around one, the smallest first."""
        if not _is_name(network):
            inner = ip_network(network)
            for length in range(inner.prefixlen - 1, -1, -1):
                held = self._held.get(str(inner.supernet(new_prefix=length)))
                if held is not None:
                    yield held

    def throttles_under(self, network: str) -> Iterator[Override]:
        """The throttles by hand of smaller networks in one."""
        if not _is_name(network):
            outer = ip_network(network)
            for held in self._held.values():
                if held.kind == THROTTLE and held.network != network and _holds(outer, ip_network(held.network)):
                    yield held


def changes(wanted: Iterable[Override], present: InForce) -> Iterator[Change]:
    """What each wanted override changes, in their order; ``present`` takes in what is done as it goes."""
    for override in wanted:
        for change in _changes(override, present):
            if change.said is not None:
                present.take(change.said)
            yield change


def removals(networks: Iterable[str], present: InForce, removal: Removal) -> Iterator[Change]:
    """What ending the exemptions of ``networks`` changes; ``removal`` says when, by whom and why."""
    for network in networks:
        held = present.of(network)
        if held is None or held.kind == THROTTLE:
            there = "nothing is exempt there" if held is None else "it is throttled by hand"
            hint = "`tidegate connector list` shows all" if held is None else "give `tidegate release` to end that"
            yield Change(REFUSES, network, None, f"{there}: {hint}")
            continue
        said = replace(removal, network=network)
        present.take(said)
        yield Change(ENDS, network, said, f"was {described(held)}")


def _changes(override: Override, present: InForce) -> Iterator[Change]:
    refusal = _refusal(override, present)
    if refusal:
        yield Change(REFUSES, override.network, None, refusal)
        return
    held = present.of(override.network)
    if held is not None and all(getattr(held, name) == getattr(override, name) for name in SAME):
        yield Change(KEEPS, override.network, None, f"is {described(held)} already")
        return
    if override.kind == EXEMPT:
        for under in list(present.throttles_under(override.network)):
            said = Removal(under.network, override.created, f"under {override.network}: {override.reason}", override.by)
            yield Change(ENDS, under.network, said, f"was {described(under)}")
    before = f", was {described(held)}" if held is not None else ""
    yield Change(CHANGES if before else ADDS, override.network, override, described(override) + before)


def _refusal(override: Override, present: InForce) -> str:
    if not override.lasts(present.now_ms):
        return "its end has passed: give a later --until"
    if override.kind == EXEMPT_NAME or override.action == CONNECTOR:
        return ""
    held = present.of(override.network)
    exempt = next((one for one in present.around(override.network) if one.kind == EXEMPT), None)
    if held is not None and held.action == CONNECTOR:
        exempt = held
    if exempt is None:
        return ""
    if override.action == RELEASE:
        lasts = exempt.until is None or (override.until is not None and exempt.until >= override.until)
        return f"{_said_of(exempt)}: nothing holds it" if lasts else ""
    return f"{_said_of(exempt)}, so edges would let it pass: remove that first"


def _said_of(override: Override) -> str:
    return f"{override.network} is {described(override)}"


def described(override: Override) -> str:
    """An override in words: what, until when, whose, why."""
    until = "for good" if override.until is None else f"until {moment(override.until)}"
    held = f"held to {override.rate_per_min * 60:g} an hour" if override.kind == THROTTLE else "exempt"
    what = "released" if override.action == RELEASE else held
    named = {"relay": override.relay, "owner": override.owner, "by": override.by}
    rest = "".join(f", {name} {value}" for name, value in named.items() if value)
    return f"{what} {until}{rest}" + (f" ({override.reason})" if override.reason else "")


def by_relay(names: Iterable[str], relays: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    """What each name stands for: (network, relay), the relay empty for what is a network or a name's suffix itself."""
    for name in names:
        if name in relays:
            yield from ((network, name) for network in relays[name])
        else:
            yield name, ""


def _is_name(network: str) -> bool:
    return network.startswith((CLIENT, HELO))


def _holds(outer: Net, inner: Net) -> bool:
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)


def _order(network: str) -> tuple[int, int, int, str]:
    if _is_name(network):
        return 9, 0, 0, network
    found = ip_network(network)
    return found.version, int(found[0]), found.prefixlen, ""
