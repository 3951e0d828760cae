"""The CSV importer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.imports.csvfile import CsvColumns, delimiter_of
from tests.support.logs import Import, file_of
from topics.errors import OperatorError
from topics.events import ConnectionEvent, encode_event, parse_event

TS = 1_714_557_600_000


def read(folder: Path, text: str | bytes, columns: CsvColumns | None = None, delimiter: str | None = None) -> Import:
    content = text if isinstance(text, bytes) else text.encode()
    return Import(None, None).csv(file_of(folder, content, "events.csv"), columns, delimiter)


def test_row_is_an_event_with_defaults_for_empty_fields(tmp_path: Path) -> None:
    text = (
        "ts,ip,mta,messages,recipients,outcome\n"
        "1714557600000,192.0.2.7,mx1,2,5,deferred\r\n"
        '1714557600001, 2001:db8::7 ,"mx,2",,,\n'
        "1714557600002,192.0.2.8,,3,,REJECTED\n"
        "1714557600003,192.0.2.9\n"
    )
    imported = read(tmp_path, text)
    assert imported.events == [
        ConnectionEvent(TS, "192.0.2.7", "mx1", 2, 5, "deferred"),
        ConnectionEvent(TS + 1, "2001:db8::7", "mx,2", 1, 1, "accepted"),
        ConnectionEvent(TS + 2, "192.0.2.8", "", 3, 3, "rejected"),
        ConnectionEvent(TS + 3, "192.0.2.9", "", 1, 1, "accepted"),
    ]
    assert (imported.counts.lines, imported.counts.unreadable) == (5, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1714557600", TS), ("1714557600.5", TS + 500), ("1714557600123", TS + 123), ("1714557600123456", TS + 123),
        ("1714557600123456789", TS + 123), ("2024-05-01T10:00:00Z", TS), ("2024-05-01 12:00:00+0200", TS),
        ("2024-05-01T10:00:00.123456+00:00", TS + 123), ("0", 0),
    ],
)  # fmt: skip
def test_time_is_an_epoch_number_of_any_unit_or_iso(tmp_path: Path, text: str, expected: int) -> None:
    assert [event.ts for event in read(tmp_path, f"ts,ip\n{text},192.0.2.7\n").events] == [expected]


def test_time_without_zone_needs_the_option(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"ts,ip\n2024-05-01 12:00:00,192.0.2.7\n")
    assert Import(None, "Europe/Berlin").csv(path).events[0].ts == TS
    with pytest.raises(OperatorError, match="no time zone: give --time-zone"):
        Import(None, None).csv(path)


@pytest.mark.parametrize(("code", "outcome"), [("250", "accepted"), ("451", "deferred"), ("554", "rejected")])
def test_reply_code_is_an_outcome(tmp_path: Path, code: str, outcome: str) -> None:
    assert read(tmp_path, f"ts,ip,outcome\n1,192.0.2.7,{code}\n").events[0].outcome == outcome


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_detected_in_the_header_or_given(tmp_path: Path, delimiter: str) -> None:
    text = f"ip{delimiter}ts\n192.0.2.7{delimiter}1714557600\n"
    assert read(tmp_path, text).events == read(tmp_path, text, None, delimiter).events != []
    assert delimiter_of(text.encode()) == delimiter


def test_column_names_ignore_case_and_byte_order_mark(tmp_path: Path) -> None:
    columns = CsvColumns(ts="When", ip="Client IP", asked=frozenset(("ts", "ip")))
    imported = read(tmp_path, b"\xef\xbb\xbfWHEN,x,client ip\n1,2,192.0.2.7\n", columns)
    assert imported.brief() == [("192.0.2.7", 1, 1, "accepted")]


def test_missing_column_is_an_error_that_names_the_others(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"has no column 'ts' \(it has time, ip\): give --ts-column NAME"):
        read(tmp_path, "time,ip\n1,192.0.2.7\n")
    with pytest.raises(OperatorError, match=r"no column 'host'.*--mta-column"):
        read(tmp_path, "ts,ip\n1,192.0.2.7\n", CsvColumns(mta="host", asked=frozenset(("mta",))))
    with pytest.raises(OperatorError, match="does not begin with a CSV header"):
        read(tmp_path, "x" * 200_000 + "\n")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("x,192.0.2.7,1,1,accepted", "no time"), (",192.0.2.7,1,1,accepted", "no time"),
        ("2024-05-01,192.0.2.7,1,1,accepted", "no time"), ("2024-05-01T10:00:00Z x,192.0.2.7,1,1,accepted", "no time"),
        ("-5,192.0.2.7,1,1,accepted", "time out of range"), ("9" * 30 + ",192.0.2.7,1,1,accepted", "time out of range"),
        ("1,192.0.2.7.8,1,1,accepted", "no address"), ("1,,1,1,accepted", "no address"), ("1", "no address"),
        ("1,192.0.2.7,-1,1,accepted", "not a number"), ("1,192.0.2.7,1,1.5,accepted", "not a number"),
        ("1,192.0.2.7,1000001,1,accepted", "not a number"), ("1,192.0.2.7,1,1,lost", "outcome unknown"),
        ("1,192.0.2.7,1,1,354", "outcome unknown"),
    ],
)  # fmt: skip
def test_bad_row_is_counted_with_its_reason(tmp_path: Path, row: str, reason: str) -> None:
    imported = read(tmp_path, f"ts,ip,messages,recipients,outcome\n1,192.0.2.1\n{row}\n\n2,192.0.2.2\n")
    assert [event.ip for event in imported.events] == ["192.0.2.1", "192.0.2.2"]
    assert imported.counts.unreadable == 1
    assert reason in imported.counts.examples[0]


def test_empty_file_has_no_events(tmp_path: Path) -> None:
    assert read(tmp_path, "").events == read(tmp_path, "ts,ip\n").events == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.binary(max_size=60) | st.from_regex(rb"[0-9.eE+:TZ -]{1,24},192\.0\.2\.7,[0-9]{0,9},.{0,9}"), max_size=20
    )
)
@example(
    [b"9" * 5000 + b",192.0.2.7", b"1" + b"0" * 400 + b",192.0.2.7", b"inf.,192.0.2.7", b"1.5e999,192.0.2.7", b'"\x00,']
)
def test_arbitrary_rows_are_counted_or_events_of_the_contract(tmp_path: Path, rows: list[bytes]) -> None:
    content = b"ts,ip,messages,outcome\n" + b"\n".join(rows)
    for event in Import(None, "UTC").csv(file_of(tmp_path, content)).events:
        assert parse_event(encode_event(event)) == event


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7:41000", "192.0.2.7"),
        ("[2001:db8::7]:41000", "2001:db8::7"),
        ("[192.0.2.7]", "192.0.2.7"),
        ("IPv6:2001:db8::7", "2001:db8::7"),
        ("[IPv6:2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
    ],
)
def test_address_of_an_endpoint_is_read(tmp_path: Path, address: str, expected: str) -> None:
    imported = Import().csv(file_of(tmp_path, f"ts,ip\n1714557600,{address}\n".encode()))

    assert [event.ip for event in imported.events] == [expected]


def test_separator_line_and_dates_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    imported = Import().csv(
        file_of(tmp_path, b"sep=;\r\nts;ip\r\n01.05.2024 10:00:00;192.0.2.7\r\n1.5.2024 10:00;192.0.2.8\r\n")
    )

    assert [(event.ts, event.ip) for event in imported.events] == [
        (1_714_557_600_000, "192.0.2.7"),
        (1_714_557_600_000, "192.0.2.8"),
    ]
    assert (imported.counts.lines, imported.counts.used) == (4, 2)


def test_message_tracking_of_exchange_gives_received_messages(tmp_path: Path) -> None:
    text = (
        "#Software: Microsoft Exchange Server\r\n#Fields: date-time,client-ip,source,event-id,recipient-count\r\n"
        "2024-05-01T10:00:00.123Z,192.0.2.7,SMTP,RECEIVE,2\r\n2024-05-01T10:00:01.123Z,198.51.100.1,SMTP,SEND,2\r\n"
    )
    columns = CsvColumns(ts="date-time", ip="client-ip", recipients="recipient-count")

    imported = Import().csv(file_of(tmp_path, text.encode()), columns)

    assert imported.brief() == [("192.0.2.7", 1, 2, "accepted")]
    assert (imported.counts.used, sum(imported.counts.ignored.values()), imported.counts.lines) == (1, 3, 4)


def test_date_and_time_in_two_columns_are_joined(tmp_path: Path) -> None:
    text = b"date;time;c-ip\n2024-05-01;10:00:00;192.0.2.7\n"

    imported = Import().csv(file_of(tmp_path, text), CsvColumns(ts="date", ip="c-ip"))

    assert imported.events[0].ts == 1_714_557_600_000
