"""Plans of overrides, before they are written, and the texts of networks, times, rates and files."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from engine.config.load import load_settings
from engine.decisions.override_index import OverrideIndex
from engine.overrides.changes import (
    ADDS,
    CHANGES,
    ENDS,
    KEEPS,
    REFUSES,
    OverrideChange,
    networks_of_names,
    plan_overrides,
    plan_removals,
)
from engine.overrides.import_file import parse_connectors
from engine.overrides.parse import parse_end_ms, parse_rate_per_min, parse_span_ms, parse_target
from engine.overrides.request import plan_of
from engine.overrides.store import apply_plan
from topics.errors import OperatorError
from topics.overrides import CONNECTOR, EXEMPT, EXEMPT_NAME, RELEASE, THROTTLE, THROTTLED, Override, Removal

NOW_MS = 1_764_547_200_000
HOUR_MS = 3_600_000


def exempt(network: str, until: int | None = None, **more: str) -> Override:
    return Override(network, EXEMPT, CONNECTOR, NOW_MS, until, **{"owner": "ACME", "reason": "MX", **more})  # type: ignore[arg-type]


def released(network: str, hours: int = 2) -> Override:
    return Override(network, EXEMPT, RELEASE, NOW_MS, NOW_MS + hours * HOUR_MS)


def throttled(network: str) -> Override:
    return Override(network, THROTTLE, THROTTLED, NOW_MS, NOW_MS + HOUR_MS, rate_per_min=1.0, burst=60.0)


def kinds(wanted: list[Override], *present: Override) -> list[tuple[str, str]]:
    return [(change.kind, change.network) for change in plan_overrides(wanted, OverrideIndex(present))]


def test_override_is_added_changed_or_kept() -> None:
    one = exempt("192.0.2.0/24")
    assert kinds([one]) == [(ADDS, "192.0.2.0/24")]
    assert kinds([replace(one, created=NOW_MS + 1, by="somebody else")], one) == [(KEEPS, "192.0.2.0/24")]
    assert kinds([replace(one, reason="other")], one) == [(CHANGES, "192.0.2.0/24")]
    assert kinds([one, one]) == [(ADDS, "192.0.2.0/24"), (KEEPS, "192.0.2.0/24")]


def test_expired_override_has_no_effect() -> None:
    assert kinds([throttled("192.0.2.7/32")], exempt("192.0.2.0/24", until=NOW_MS)) == [(ADDS, "192.0.2.7/32")]
    assert kinds([exempt("192.0.2.0/24", until=NOW_MS)]) == [(REFUSES, "192.0.2.0/24")]


@pytest.mark.parametrize("outer", ["192.0.2.7/32", "192.0.2.0/24", "0.0.0.0/0"])
def test_exempt_network_is_neither_released_nor_throttled(outer: str) -> None:
    for one in (released("192.0.2.7/32"), throttled("192.0.2.7/32")):
        (change,) = plan_overrides([one], OverrideIndex([exempt(outer)]))
        assert (change.kind, change.record) == (REFUSES, None)
        assert outer in change.text
    assert kinds([throttled("198.51.100.7/32"), released("2001:db8::/32")], exempt("192.0.2.0/24"))[0][0] == ADDS


def test_release_that_outlasts_an_exemption_is_added() -> None:
    sooner = exempt("192.0.2.0/24", until=NOW_MS + HOUR_MS)
    assert kinds([released("192.0.2.7/32", hours=2)], sooner) == [(ADDS, "192.0.2.7/32")]
    assert kinds([released("192.0.2.7/32", hours=1)], sooner) == [(REFUSES, "192.0.2.7/32")]


def test_release_ends_a_manual_throttle_and_exemption_ends_those_within() -> None:
    held = throttled("192.0.2.7/32")
    assert kinds([released("192.0.2.7/32")], held) == [(CHANGES, "192.0.2.7/32")]
    assert kinds([exempt("192.0.2.0/24")], held, throttled("198.51.100.7/32")) == [
        (ENDS, "192.0.2.7/32"), (ADDS, "192.0.2.0/24"),
    ]  # fmt: skip
    assert kinds([throttled("192.0.2.7/32")], released("192.0.2.7/32")) == [(CHANGES, "192.0.2.7/32")]


def test_removal_of_other_networks_than_exempt_ones_is_refused() -> None:
    present = OverrideIndex([exempt("192.0.2.0/24"), throttled("198.51.100.7/32")])
    found = list(
        plan_removals(["192.0.2.0/24", "192.0.2.0/24", "198.51.100.7/32"], present, Removal("", NOW_MS, "over", "me"))
    )
    assert [change.kind for change in found] == [ENDS, REFUSES, REFUSES]
    assert found[0].record == Removal("192.0.2.0/24", NOW_MS, "over", "me")
    assert "tidegate release" in found[2].text


def test_name_of_a_relay_gives_its_networks() -> None:
    relays = {"esp": ("192.0.2.0/24", "2001:db8::/40")}
    assert list(networks_of_names(["esp", "10.0.0.0/8"], relays)) == [
        ("192.0.2.0/24", "esp"), ("2001:db8::/40", "esp"), ("10.0.0.0/8", ""),
    ]  # fmt: skip


def test_unexpired_overrides_are_in_address_order() -> None:
    records = [exempt("2001:db8::/32"), exempt("192.0.2.0/24"), exempt("10.0.0.0/8"), exempt("10.0.0.0/16")]
    assert [one.network for one in OverrideIndex(records).all_unexpired(NOW_MS)] == [
        "10.0.0.0/8", "10.0.0.0/16", "192.0.2.0/24", "2001:db8::/32",
    ]  # fmt: skip


CSV = "Network, owner,reason,until\n192.0.2.0/24,ACME,MX,30d\n\n10.0.0.1/8,a,b,\n198.51.100.7,,,\n192.0.2.0/24,B,c,\n,x,y,\n"


def test_csv_lines_become_overrides_or_refusals() -> None:
    found = list(parse_connectors(CSV, exempt("", owner="", reason="imported")))
    wanted = [one for one in found if isinstance(one, Override)]
    assert [(one.network, one.owner, one.reason, one.until) for one in wanted] == [
        ("192.0.2.0/24", "ACME", "MX", NOW_MS + 30 * 24 * HOUR_MS)
    ]
    refused = [one.text for one in found if isinstance(one, OverrideChange)]
    assert [text.partition(":")[0] for text in refused] == ["line 4", "line 5", "line 6", "line 7"]
    assert [
        word in text for word, text in zip(("10.0.0.0/8", "--owner", "line 2", "no network"), refused, strict=True)
    ] == ([True] * 4)


def test_file_of_networks_may_have_comments() -> None:
    text = "# partners\n192.0.2.0/24  # MX\n\nclient:.example.com\n2001:db8::/32\n"
    found = [one for one in parse_connectors(text, exempt("")) if isinstance(one, Override)]
    assert [(one.network, one.kind, one.owner) for one in found] == [
        ("192.0.2.0/24", "exempt", "ACME"), ("client:.example.com", "exempt-name", "ACME"), ("2001:db8::/32", "exempt", "ACME"),
    ]  # fmt: skip


def test_unknown_column_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown column 'ip'"):
        list(parse_connectors("network,ip\n", exempt("")))


def test_spans_ends_rates_and_targets_are_parsed() -> None:
    assert [parse_span_ms(text) for text in ("90 s", "30m", "1.5h", "7d", "2w")] == [
        90_000, 1_800_000, 5_400_000, 604_800_000, 1_209_600_000,
    ]  # fmt: skip
    assert parse_end_ms("2h", NOW_MS) == NOW_MS + 2 * HOUR_MS
    assert (
        parse_end_ms("2025-12-01T01:00", NOW_MS) == parse_end_ms("2025-12-01T02:00+01:00", NOW_MS) == NOW_MS + HOUR_MS
    )
    assert [parse_rate_per_min(text) for text in ("60/h", "2/min", "0/h", "1/s")] == [1.0, 2.0, 0.0, 60.0]
    assert parse_target("::ffff:192.0.2.7") == "192.0.2.7/32"


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "0h", "1e9d", "999999999w"])
def test_other_text_than_a_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give one such as"):
        parse_span_ms(text)


@pytest.mark.parametrize("text", ["", "60", "60/y", "-1/h", "1e99/h"])
def test_other_text_than_a_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give one such as"):
        parse_rate_per_min(text)


def records_of(**fields: str) -> list[Override | Removal | None]:
    """Return the records of a request while 192.0.2.0/24 is exempt."""
    request = {"action": "exempt", "network": "192.0.2.7", "owner": "ACME", "by": "me"} | fields
    return [change.record for change in plan_of(request, NOW_MS)(OverrideIndex([exempt("192.0.2.0/24")]))]


def test_request_gives_the_records_of_the_commands() -> None:
    assert records_of(until="2h", reason="MX") == [exempt("192.0.2.7/32", NOW_MS + 2 * HOUR_MS, by="me")]
    assert records_of(action="release", network="198.51.100.0/24") == [replace(released("198.51.100.0/24"), by="me")]
    assert records_of(action="end", network="192.0.2.0/24", reason="over") == [
        Removal("192.0.2.0/24", NOW_MS, "over", "me")
    ]
    assert records_of(network="client:.example.com", reason="MX") == [
        replace(exempt("client:.example.com", by="me"), kind=EXEMPT_NAME)
    ]


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"until": "soon"}, "'soon' is no end: give a span"),
        ({"owner": " "}, "owner is missing: give owner and contact"),
        ({"action": "release", "network": "helo:.example.com"}, "is a name: give a network"),
        ({"action": "release", "until": "2030-01-31T18:00"}, "is no time span: give one such as 30m"),
        ({"reason": "x" * 201}, "reason is longer than 200 letters"),
        ({"by": ""}, "by is missing"),
        ({"owner": 7}, "give an object of texts: action, network"),
    ],
)
def test_wrong_request_is_refused_with_a_remedy(fields: dict[str, str], remedy: str) -> None:
    with pytest.raises(OperatorError, match=remedy):
        records_of(**fields)


async def test_applying_a_plan_keeps_the_log_level_of_aiokafka() -> None:
    log = logging.getLogger("aiokafka")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with pytest.raises(OperatorError, match="the order may not be complete"):
            await apply_plan(load_settings(None, {}, {"kafka.bootstrap": "127.0.0.1:9"}), lambda index: [])
        assert log.level == logging.ERROR
    finally:
        log.setLevel(before)


@pytest.mark.parametrize(("forced", "kind"), [(False, REFUSES), (True, ADDS)])
def test_override_of_all_addresses_must_be_forced(forced: bool, kind: str) -> None:
    wide = Override("0.0.0.0/0", EXEMPT, CONNECTOR, 1, None, owner="o", forced=forced)

    assert [change.kind for change in plan_overrides([wide], OverrideIndex())] == [kind]
