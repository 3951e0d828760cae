"""Convert timestamps of log lines to ms since epoch.

Two forms, by the first character: traditional syslog (`Oct 22 02:12:45`, also with a fraction: no year, no zone) and ISO 8601 /
RFC 3339 (`2015-10-22T02:12:45.123456-07:00`, Exim's `2015-10-22 02:12:45.123 -0700`; the zone may be missing). Missing parts
must be given: this machine's clock and zone are never used. With the year "mtime" a file's first timestamp is the last such
date before the file's modification. 29 February of a year without one is read as 1 March, and counted.

The year changes where timestamps fall back by more than half a year; late lines of the old year keep it. In the hour that a
clock set back shows twice, a timestamp is of the first pass unless that is more than ten minutes before the latest time read;
so a silence of 50 minutes there is missed. A timestamp in the hour that a clock set forward skips is read with the offset
before the jump. Both are counted. Other backward steps are kept.
"""

from __future__ import annotations

import re
from calendar import isleap
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import NoReturn
from zoneinfo import ZoneInfo

from engine.imports.counts import ImportCounts
from engine.imports.lines import LogFile
from topics.errors import OperatorError

MTIME = "mtime"
UNREADABLE = -1
_MONTHS = {name: i for i, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_ISO = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):([0-5]\d|60)(?:[.,](\d{1,9}))?( ?[+-]\d\d:?\d\d|Z)?(?![^ ])"
)
_TRADITIONAL = re.compile(rb"([A-Z][a-z][a-z]) ([ \d]\d) (\d\d):(\d\d):$")
_FRACTION = re.compile(rb"[.,](\d{1,9})(?= )")
_PRIORITY = re.compile(rb"<\d{1,3}>(?:1 )?")
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)$")
_HALF_YEAR_DAYS = 186
_NEARLY_A_YEAR_DAYS = 340
_BACK_MS = 600_000
_SKEW_S = 3_600
_GIVE_ZONE = "--time-zone (such as Europe/Berlin, UTC or -07:00)"
_GIVE_YEAR = "--year (the year of its first line, or mtime: derived from the file's modification time)"


def zone_of(text: str) -> tzinfo:
    """Return the time zone of an IANA name or a fixed offset (`-07:00`). Raise OperatorError for other text."""
    offset = _OFFSET.match(text)
    if offset:
        shift = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        if shift < timedelta(hours=24) and int(offset[3]) < 60:
            return timezone(-shift if offset[1] == "-" else shift)
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        raise OperatorError(
            f"no time zone {text!r}: give a name such as Europe/Berlin, or an offset such as -07:00"
        ) from None


def year_of(text: str) -> int | str:
    """Return a year, or "mtime". Raise OperatorError for other text."""
    if text == MTIME:
        return MTIME
    if re.fullmatch(r"(19[7-9]\d|2\d{3})", text):
        return int(text)
    raise OperatorError(f"no year {text!r}: give one from 1970 on, or mtime")


class LogClock:
    """The clock of one file. Its timestamps are read in the order of the lines."""

    def __init__(self, log: LogFile, year: int | str | None, zone: tzinfo | None, counts: ImportCounts) -> None:
        self.end = 0  # index in its line after the last timestamp read
        self.counts = counts
        self._log = log
        self._zone = zone
        self._given_year = year
        self._first_year = 0
        self._year = 0
        self._latest_day = 0
        self._latest_ms = 0
        self._second_pass = False
        self._minute = b""
        self._minute_ms = 0
        self._iso_minute: tuple[bytes, bytes | None] = (b"", None)

    def scratch(self) -> LogClock:
        """Return another clock of the same file, which counts nothing."""
        return LogClock(self._log, self._given_year, self._zone, ImportCounts())

    def read_own_time(self, line: bytes) -> int:
        """Return ms since epoch of the timestamp that a line begins with, behind a syslog priority if it has one."""
        start = _PRIORITY.match(line)
        return self.read(line[start.end() :] if start else line)

    def read(self, line: bytes) -> int:
        """Return ms since epoch of the timestamp at the beginning of `line`, UNREADABLE without one.

        Raise OperatorError if it lacks a year or zone that was not given.
        """
        if line[:13] == self._minute:
            second = line[13:15]
            fraction_ms = self._fraction_ms(line)
            if second.isdigit() and second < b"61" and fraction_ms >= 0:
                ts = self._minute_ms + int(second) * 1000 + fraction_ms
                self._latest_ms = max(self._latest_ms, ts)
                return ts
            return UNREADABLE
        try:
            ts = self._iso(line) if line[:1].isdigit() else self._traditional(line)
        except (ValueError, OverflowError):
            return UNREADABLE
        self._latest_ms = max(self._latest_ms, ts)
        return ts

    def _traditional(self, line: bytes) -> int:
        match = _TRADITIONAL.match(line[:13])
        second = line[13:15]
        fraction_ms = self._fraction_ms(line)
        if not match or not second.isdigit() or second > b"60" or fraction_ms < 0 or match[1] not in _MONTHS:
            return UNREADABLE
        if self._zone is None or self._given_year is None:
            self._refuse(year=self._given_year is None, zone=self._zone is None)
        month, day = _MONTHS[match[1]], int(match[2])
        year = self._year_of_day(month, day)
        is_impossible = (month, day) == (2, 29) and not isleap(year)
        if is_impossible:
            self.counts.impossible_days += 1
            self.counts.impossible_year = year
            month, day = 3, 1
        local = datetime(year, month, day, int(match[3]), int(match[4]))  # noqa: DTZ001
        start, plain = self._epoch_ms(local)
        self._minute, self._minute_ms = (line[:13] if plain and not is_impossible else b""), start
        self._iso_minute = (b"", None)
        return start + int(second) * 1000 + fraction_ms

    def _fraction_ms(self, line: bytes) -> int:
        """Return the ms of a traditional timestamp's fraction and set `end`; UNREADABLE if other text follows the seconds."""
        if line[15:16] == b" ":
            self.end = 15
            return 0
        match = _FRACTION.match(line, 15)
        if not match:
            return UNREADABLE
        self.end = match.end()
        return int(match[1].ljust(3, b"0")[:3])

    def _year_of_day(self, month: int, day: int) -> int:
        """Return the year of the next timestamp, whose month and day are given."""
        at = month * 31 + day  # months of 31 days: exact enough to detect a change of the year
        if not self._year:
            self._year = self._first_year = self._year_at_first(month, day)
        elif at < self._latest_day - _HALF_YEAR_DAYS:
            self._year += 1
        elif at > self._latest_day + (_HALF_YEAR_DAYS if self._year > self._first_year else _NEARLY_A_YEAR_DAYS):
            return self._year - 1
        else:
            self._latest_day = max(self._latest_day, at)
            return self._year
        self._latest_day = at
        return self._year

    def _year_at_first(self, month: int, day: int) -> int:
        if isinstance(self._given_year, int):
            return self._given_year
        if self._log.modified_s is None:
            raise OperatorError(f"{self._log.name} has no modification time: give --year YYYY")
        modified = datetime.fromtimestamp(self._log.modified_s + _SKEW_S, self._zone)
        return modified.year if (month, day) <= (modified.month, modified.day) else modified.year - 1

    def _iso(self, line: bytes) -> int:
        match = _ISO.match(line)
        if not match:
            return UNREADABLE
        if (line[:17], match[8]) != self._iso_minute:
            year, month, day, hour, minute = (int(group) for group in match.groups()[:5])
            local = datetime(year, month, day, hour, minute)  # noqa: DTZ001
            plain = True
            if match[8]:
                self._minute_ms = _utc_ms(local) - _offset_ms(match[8])
            elif self._zone is None:
                self._refuse(year=False, zone=True)
            else:
                self._minute_ms, plain = self._epoch_ms(local)
            self._iso_minute = (line[:17], match[8]) if plain else (b"", None)
            self._minute = b""
        self.end = match.end()
        return self._minute_ms + int(match[6]) * 1000 + int((match[7] or b"0").ljust(3, b"0")[:3])

    def _epoch_ms(self, local: datetime) -> tuple[int, bool]:
        """Return ms since epoch of a time in the zone, and True if it exists exactly once there."""
        before = _shift_ms(local.replace(tzinfo=self._zone, fold=0))
        after = _shift_ms(local.replace(tzinfo=self._zone, fold=1))
        first = _utc_ms(local) - before
        if before == after:
            self._second_pass = False
            return first, True
        if before < after:
            self.counts.skipped_times += 1
            return first, False
        self.counts.ambiguous_times += 1
        self._second_pass |= first < self._latest_ms - _BACK_MS
        return (_utc_ms(local) - after if self._second_pass else first), False

    def _refuse(self, *, year: bool, zone: bool) -> NoReturn:
        lack = " and ".join(["no year"] * year + ["no time zone"] * zone)
        give = " and ".join([_GIVE_YEAR] * year + [_GIVE_ZONE] * zone)
        raise OperatorError(f"{self._log.name}: its timestamps have {lack}: give {give}")


def _utc_ms(local: datetime) -> int:
    return int(local.replace(tzinfo=UTC).timestamp()) * 1000


def _shift_ms(time: datetime) -> int:
    shift = time.utcoffset()
    assert shift is not None
    return int(shift.total_seconds() * 1000)


def _offset_ms(text: bytes) -> int:
    if text == b"Z":
        return 0
    digits = text.strip().replace(b":", b"")
    minutes = int(digits[1:3]) * 60 + int(digits[3:5])
    return -minutes * 60_000 if digits[:1] == b"-" else minutes * 60_000
