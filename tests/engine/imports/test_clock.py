"""Timestamps of log lines, with years, zones and clock changes."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.imports.clock import UNREADABLE, LogClock, year_of, zone_of
from engine.imports.counts import ImportCounts
from engine.imports.lines import LogFile
from topics.errors import OperatorError


def ms(*fields: int) -> int:
    return int(datetime(*fields, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]


def clock(
    year: int | str | None = 2024,
    zone: str | None = "UTC",
    log: LogFile | None = None,
    counts: ImportCounts | None = None,
) -> LogClock:
    return LogClock(log or LogFile("-"), year, zone_of(zone) if zone else None, counts or ImportCounts())


def read(timestamps: list[str], year: int | str | None = 2024, zone: str | None = "UTC") -> list[int]:
    reader = clock(year, zone)
    return [reader.read(f"{timestamp} mx postfix".encode()) for timestamp in timestamps]


def test_traditional_timestamp_takes_given_year_and_zone() -> None:
    assert read(["Oct  2 02:12:45", "Oct 02 02:12:46", "Oct 22 02:12:45"], 2015, "America/Los_Angeles") == [
        ms(2015, 10, 2, 9, 12, 45), ms(2015, 10, 2, 9, 12, 46), ms(2015, 10, 22, 9, 12, 45)]  # fmt: skip
    assert read(["Oct 22 02:12:45"], 2015, "-07:00") == read(["Oct 22 02:12:45"], 2015, "America/Los_Angeles")
    assert read(["Oct 22 02:12:45"], 2015, "+0530") == [ms(2015, 10, 21, 20, 42, 45)]


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2015-10-22T02:12:45Z", ms(2015, 10, 22, 2, 12, 45)),
        ("2015-10-22T02:12:45-07:00", ms(2015, 10, 22, 9, 12, 45)),
        ("2015-10-22T02:12:45.123456+0200", ms(2015, 10, 22, 0, 12, 45) + 123),
        ("2015-10-22 02:12:45 +0100", ms(2015, 10, 22, 1, 12, 45)),
        ("2015-10-22 02:12:45.5 -0330", ms(2015, 10, 22, 5, 42, 45) + 500),
        ("2015-10-22 02:12:45,007 +00:00", ms(2015, 10, 22, 2, 12, 45) + 7),
    ],
)
def test_iso_timestamp_with_zone_needs_nothing_else(timestamp: str, expected: int) -> None:
    reader = clock(None, None)
    assert reader.read(f"{timestamp} mx".encode()) == expected
    assert reader.end == len(timestamp)
    assert clock(None, None).read(timestamp.encode()) == expected


def test_iso_timestamp_without_zone_takes_the_given_one() -> None:
    assert read(["2015-10-22 02:12:45", "2015-10-22 02:12:45.250"], None, "Europe/Berlin") == [
        ms(2015, 10, 22, 0, 12, 45), ms(2015, 10, 22, 0, 12, 45) + 250]  # fmt: skip


def test_timestamp_with_a_missing_part_is_an_error_that_names_it() -> None:
    with pytest.raises(OperatorError, match=r"no year and no time zone: give --year .* and --time-zone"):
        read(["Oct 22 02:12:45"], None, None)
    with pytest.raises(OperatorError, match=r"no time zone: give --time-zone"):
        read(["Oct 22 02:12:45"], 2015, None)
    with pytest.raises(OperatorError, match=r"no year: give --year"):
        read(["Oct 22 02:12:45"], None, "UTC")
    with pytest.raises(OperatorError, match=r"no time zone: give --time-zone"):
        read(["2015-10-22T02:12:45"], 2015, None)
    with pytest.raises(OperatorError, match=r"no modification time"):
        read(["Oct 22 02:12:45"], "mtime", "UTC")


@pytest.mark.parametrize(
    "line",
    ["", "x", "Oct", "Oct 22", "Oct 22 02:12:4", "Oct 22 02:12:61 mx", "Oct 22 02:12:99 mx", "Oct 22 25:12:45 mx",
     "Oct 32 02:12:45 mx", "Okt 22 02:12:45 mx", "oct 22 02:12:45 mx", "Oct 22 02:12:45mx", "Feb 30 02:12:45 mx",
     "Oct  0 02:12:45 mx", "Oct 22 2:12:45 mx", "2015-13-22T02:12:45Z mx", "2015-10-22T02:12:45Zmx",
     "2015-10-22X02:12:45Z mx", "0000-10-22T02:12:45Z mx", "2015-10-22T02:12:45+07:00x mx", "Oct 22 02:12:\uff14\uff15 mx"],
)  # fmt: skip
def test_text_without_timestamp_is_unreadable(line: str) -> None:
    reader = clock()
    assert reader.read(b"Oct 22 02:12:44 mx") > 0
    assert reader.read(line.encode()) == UNREADABLE


def test_year_changes_from_december_to_january() -> None:
    timestamps = [
        "Dec 31 23:59:59",
        "Jan  1 00:00:01",
        "Dec 31 23:59:58",
        "Jan  1 00:00:02",
        "Feb 29 10:00:00",
        "Dec 31 10:00:00",
    ]
    assert read(timestamps, 2023) == [
        ms(2023, 12, 31, 23, 59, 59), ms(2024, 1, 1, 0, 0, 1), ms(2023, 12, 31, 23, 59, 58), ms(2024, 1, 1, 0, 0, 2),
        ms(2024, 2, 29, 10), ms(2023, 12, 31, 10)]  # fmt: skip


def test_late_december_line_in_a_january_file_is_of_the_year_before() -> None:
    timestamps = ["Jan  1 00:00:00", "Dec 31 23:59:59", "Jan  1 00:00:01"]
    assert read(timestamps, 2024) == [ms(2024, 1, 1), ms(2023, 12, 31, 23, 59, 59), ms(2024, 1, 1, 0, 0, 1)]


def test_steps_back_and_long_gaps_within_a_year_keep_the_year() -> None:
    timestamps = ["Mar  1 10:00:00", "Feb  1 10:00:00", "Nov  1 10:00:00", "Aug  1 10:00:00"]
    assert [datetime.fromtimestamp(ts / 1000, UTC).year for ts in read(timestamps)] == [2024] * 4


def test_second_pass_of_a_repeated_hour_follows_line_order() -> None:
    counts = ImportCounts()
    reader = clock(2015, "America/Los_Angeles", counts=counts)
    timestamps = [
        "Nov  1 00:59:00",
        "Nov  1 01:10:00",
        "Nov  1 01:55:00",
        "Nov  1 01:54:59",
        "Nov  1 01:05:00",
        "Nov  1 01:58:00",
    ]
    hours = [(reader.read(f"{timestamp} mx".encode()) - ms(2015, 11, 1)) / 3_600_000 for timestamp in timestamps]
    assert [round(hour, 2) for hour in hours] == [7.98, 8.17, 8.92, 8.92, 9.08, 9.97]
    assert counts.ambiguous_times == 5
    assert reader.read(b"Nov  1 02:00:00 mx") == ms(2015, 11, 1, 10)


def test_skipped_time_is_read_with_the_offset_before() -> None:
    counts = ImportCounts()
    reader = clock(2015, "America/Los_Angeles", counts=counts)
    assert reader.read(b"Mar  8 02:30:00 mx") == ms(2015, 3, 8, 10, 30)
    assert reader.read(b"Mar  8 03:30:00 mx") == ms(2015, 3, 8, 10, 30)
    assert counts.skipped_times == 1


@pytest.mark.parametrize(("modified", "first", "year"), [
    ((2016, 1, 3), "Dec 28 10:00:00", 2015), ((2016, 1, 3), "Jan  3 00:00:00", 2016), ((2015, 12, 31), "Jan  1 00:00:00", 2015),
    ((2016, 1, 3), "Jan  3 23:00:00", 2016), ((2016, 1, 3), "Jan  4 10:00:00", 2015), ((2016, 3, 1), "Feb 29 10:00:00", 2016),
])  # fmt: skip
def test_mtime_gives_the_year_of_the_first_line(
    tmp_path: Path, modified: tuple[int, int, int], first: str, year: int
) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(b"")
    seconds = ms(*modified, 12) / 1000
    os.utime(path, (seconds, seconds))
    ts = clock("mtime", "UTC", LogFile(str(path))).read(f"{first} mx".encode())
    assert datetime.fromtimestamp(ts / 1000, UTC).year == year


def test_invalid_year_or_zone_is_an_error() -> None:
    assert (year_of("2015"), year_of("mtime")) == (2015, "mtime")
    for text in ("15", "1969", "next", "20155", "-2015", ""):
        with pytest.raises(OperatorError, match="no year"):
            year_of(text)
    for text in ("Europe/Nowhere", "+25:00", "+01:60", "", "../UTC", "/etc/passwd", "Europe", "\0"):
        with pytest.raises(OperatorError, match="no time zone"):
            zone_of(text)


@given(
    st.lists(
        st.binary(max_size=30)
        | st.from_regex(rb"[A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d |\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
    )
)
def test_arbitrary_bytes_never_raise(lines: list[bytes]) -> None:
    reader = clock(2015, "America/Los_Angeles")
    for line in lines:
        reader.read(line)


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LOCAL_TIMES = st.datetimes(datetime(2001, 1, 1), datetime(2099, 12, 30))  # noqa: DTZ001


@given(LOCAL_TIMES, st.sampled_from(["Europe/Berlin", "Asia/Kolkata", "UTC"]))
def test_unambiguous_time_reads_back_from_either_form(local: datetime, zone: str) -> None:
    local = local.replace(microsecond=0)
    zoned = local.replace(tzinfo=zone_of(zone))
    expected = int(zoned.timestamp() * 1000)
    if zoned.replace(fold=1).utcoffset() != zoned.utcoffset():
        return
    month = MONTHS[local.month - 1]
    assert read([f"{month} {local.day:>2} {local:%H:%M:%S}"], local.year, zone) == [expected]
    assert read([f"{local:%Y-%m-%d %H:%M:%S}"], None, zone) == [expected]
    assert read([zoned.isoformat()], None, None) == [expected]
