"""Remove what containers and log collectors put around the lines of a mail server's log.

Each returned line has the form of a log file: timestamp, host (may be missing), tag, text. Recognised: journalctl's `short`
forms, `json` and `export`; Docker's json-file, `logs -t` and compose; CRI; kubectl and stern; grep's file names; syslog's
priorities and frames; JSON of Filebeat, Vector, Fluent Bit, rsyslog and syslog-ng (`engine.imports.json_lines`); byte order
marks, blocks of NUL and carriage returns. A line's own timestamp is preferred to that of its collector. Lines that a syslog
daemon reports as repeated are repeated. A line that is plain already costs one comparison.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from engine.imports.json_lines import line_of_json, line_of_record

MAX_REPEATS = 100_000
_MAX_LAYERS = 4
_MAX_EXPORT_BYTES = 1 << 20
_TAI_EPOCH = (1 << 62) + 10

_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = rb"\d\d:\d\d:\d\d"
_START = rb"(?:[A-Za-z\x80-\xff]{3,6}\.? +\d{1,2} " + _CLOCK + rb"|\d{4}-\d\d-\d\d[T ]" + _CLOCK + rb"|<\d{1,3}>|\{)"
_ISO_T = rb"\d{4}-\d\d-\d\dT" + _CLOCK + rb"\S*"

_TRADITIONAL = re.compile(_MONTH + rb" [ \d]\d " + _CLOCK)
_PLAIN_ISO = re.compile(rb"\d{4}-\d\d-\d\d[T ]" + _CLOCK + rb"\S* (?!" + _START + rb"|std(?:out|err) |\S+\t\{)")
_STARTS = re.compile(_START)
_COLOUR = re.compile(rb"\x1b\[[0-9;]*[mK]")
_PREFIX = re.compile(
    rb"[\w./@-]+ *\| |\[[^\]\s]+\] (?=" + _START + rb")|(?:[^\s:]+:)(?:\d+[:-])?(?=" + _START + rb")"
    rb"|"
    + _ISO_T
    + rb" (?:[a-z0-7]+\.[a-z]+: )?(?="
    + _START
    + rb")|"
    + _ISO_T
    + rb"\t\S+\t(?=\{)|\d{1,7} (?=<\d)|data: (?=\{)"
)
_CRI = re.compile(rb"(" + _ISO_T + rb") std(?:out|err) ([FP]) ")
_WORDS_BEFORE = re.compile(rb"(?:[\w./@-]+ ){1,2}(?=" + _START + rb")")
_SHORT_FULL = re.compile(
    rb"[^\s\d]{2,6} (\d{4}-\d\d-\d\d " + _CLOCK + rb"(?:\.\d+)?) ([A-Z]{2,5}|[+-]\d\d(?::?\d\d)?) (?=\S)"
)
_UNIX = re.compile(rb"(\d{9,11}\.\d{1,9}) (?=\S)")
_TAI64N = re.compile(rb"@(4[0-9a-f]{15})([0-9a-f]{8}) ")
_UNDERSCORE = re.compile(rb"(\d{4}-\d\d-\d\d)_(" + _CLOCK + rb"\S*) ")
_WITH_YEAR = re.compile(
    rb"(?:(?P<y1>\d{4}) )?(?P<month>[A-Za-z\x80-\xff]{3,6})\.? +(?P<day>\d{1,2})(?: (?P<y2>\d{4}))? (?P<clock>"
    + _CLOCK
    + rb")"
)
_REPEATED = re.compile(
    rb"(?P<head>.{15,200}?\]: )message repeated (?P<count>\d{1,9}) times: \[ ?(?P<body>.*)\]$", re.DOTALL
)
_LAST_REPEATED = re.compile(
    rb"(?P<time>" + _MONTH + rb" [ \d]\d " + _CLOCK + rb"\S*|\d{4}-\d\d-\d\d[T ]\S+) (?:[^\s:]+ )?(?:[^\s:]+: )?"
    rb"(?:-+ )?last message repeated (?P<count>\d{1,9}) times?(?: -+)?\.?$"
)
_TIME = re.compile(_MONTH + rb" [ \d]\d " + _CLOCK + rb"\S* |\d{4}-\d\d-\d\d[T ]" + _CLOCK + rb"\S* ")
_EXPORT_FIELD = re.compile(rb"[A-Z_][A-Z0-9_]*$")

# Abbreviations of months in the C library's locales of Danish, Dutch, English, French, German, Italian, Norwegian,
# Portuguese, Spanish and Swedish, in order of the months. No abbreviation has two meanings among them.
_MONTHS = {
    name.encode(): number
    for number, names in enumerate(
        (
            "jan janv ene gen jän", "feb févr fev", "mar mär mars mrt", "apr abr avril avr", "may mai mei maj mag",
            "jun juin giu juni", "jul juil lug juli", "aug août ago", "sep sept set", "oct okt ott out", "nov",
            "dec dez déc dic des",
        ),
        1,
    )
    for name in names.split()
}  # fmt: skip
_ENGLISH = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def plain_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a log without their wrappers, and those that are reported as repeated that often."""
    previous, hour, partial = b"", b"", b""
    source = iter(lines)
    for raw in source:
        line = raw[:-1] if raw[-1:] == b"\r" else raw
        if line[:10] != hour or line[9:10] != b":":
            if line[:9] == b"__CURSOR=":
                line = _exported(source)
            elif line.startswith(b"-- ") or not line:
                yield b""
                continue
            else:
                line, is_partial = _whole(line)
                if is_partial:
                    partial = (partial + line)[:_MAX_EXPORT_BYTES]
                    continue
                if partial:
                    line, partial = _joined(partial, line), b""
            hour = line[:10] if _TRADITIONAL.match(line) else b""
        if b"message repeated " in line:
            for repeated in _repeated(line, previous):
                yield repeated
                previous = repeated
            continue
        yield line
        previous = line
    if partial:
        yield partial


def _whole(line: bytes) -> tuple[bytes, bool]:
    """Return an unwrapped line, and True if a container runtime continues it in the next line."""
    if _PLAIN_ISO.match(line):
        return line, False
    match = _CRI.match(line)
    if not match:
        return unwrapped(line), False
    rest = line[match.end() :]
    is_partial = match[2] == b"P"
    if is_partial or not _STARTS.match(rest):
        return match[1] + b" " + rest, is_partial
    return unwrapped(rest), False


def _joined(partial: bytes, line: bytes) -> bytes:
    """Return the parts of a line, of which each has its collector's timestamp, as one line."""
    rest = line.partition(b" ")[2] if _PLAIN_ISO.match(line) else line
    time, _, first = partial.partition(b" ")
    whole = first + rest
    return unwrapped(whole) if _STARTS.match(whole) else time + b" " + whole


def unwrapped(line: bytes) -> bytes:
    """Return a line without the wrappers that one line shows, with its timestamp in a form that `LogClock` reads."""
    for _ in range(_MAX_LAYERS):
        before = line
        line = line.lstrip(b"\0\x1e \t")
        line = line.removeprefix(b"\xef\xbb\xbf")
        if b"\x1b" in line[:120]:
            line = _COLOUR.sub(b"", line)
        if line[:1] == b"{":
            line = line_of_json(line)
        elif _TRADITIONAL.match(line):
            return line
        elif match := _SHORT_FULL.match(line):
            return match[1].replace(b" ", b"T") + _zone(match[2]) + b" " + line[match.end() :]
        elif (match := _PREFIX.match(line)) or (not _STARTS.match(line) and (match := _WORDS_BEFORE.match(line))):
            line = line[match.end() :]
        else:
            line = _with_plain_time(line)
        if line == before:
            break
    return line


def _with_plain_time(line: bytes) -> bytes:
    """Return a line with one of the rarer timestamps in a form that `LogClock` reads."""
    if match := _WITH_YEAR.match(line):
        month = _MONTHS.get(match["month"].lower().removesuffix(b"."), 0)
        if not month:
            return line
        year, day, rest = match["y1"] or match["y2"], int(match["day"]), line[match.end() :]
        if year:
            return b"%s-%02d-%02dT%s%s" % (year, month, day, match["clock"], rest)
        return b"%s %2d %s%s" % (_ENGLISH[month - 1], day, match["clock"], rest)
    if match := _UNIX.match(line):
        return _iso(float(match[1])) + line[match.end() - 1 :]
    if match := _TAI64N.match(line):
        return _iso(int(match[1], 16) - _TAI_EPOCH + int(match[2], 16) / 1e9) + line[match.end() - 1 :]
    if match := _UNDERSCORE.match(line):
        return match[1] + b"T" + match[2] + line[match.end() - 1 :]
    return line


def _iso(epoch_s: float) -> bytes:
    try:
        return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")[:23].encode() + b"Z"
    except (ValueError, OverflowError, OSError):
        return b"?"


def _zone(name: bytes) -> bytes:
    """Return a zone as a suffix of ISO 8601, b"" for an abbreviation: --time-zone has to explain it."""
    if name in (b"UTC", b"GMT"):
        return b"Z"
    if name[:1] not in b"+-":
        return b""
    digits = name.replace(b":", b"")
    return digits if len(digits) == 5 else digits + b"00"


def _repeated(line: bytes, previous: bytes) -> Iterator[bytes]:
    """Yield a line as often as a syslog daemon reports it, or `line` itself if it is another line with such text."""
    match = _REPEATED.match(line)
    if match and match["head"].count(b"]: ") == 1:
        for _ in range(min(int(match["count"]), MAX_REPEATS)):
            yield match["head"] + match["body"]
        return
    match = _LAST_REPEATED.match(line)
    before = _TIME.match(previous)
    if match and before:
        for _ in range(min(int(match["count"]), MAX_REPEATS)):
            yield match["time"] + b" " + previous[before.end() :]
        return
    yield line


def _exported(source: Iterator[bytes]) -> bytes:
    """Return the next entry of journalctl's export format, up to the empty line that ends it, as one line."""
    record: dict[str, object] = {}
    for line in source:
        if not line:
            break
        name, equals, value = line.partition(b"=")
        if equals:
            record[name.decode("ascii", "replace")] = value.decode("utf-8", "replace")
        elif _EXPORT_FIELD.match(line):
            record[line.decode()] = _binary(source).decode("utf-8", "replace")
    return line_of_record(record) or b""


def _binary(source: Iterator[bytes]) -> bytes:
    """Return the value of a field with a length of 64 bits before it, which may contain line feeds."""
    data = b""
    for line in source:
        data += line
        size = int.from_bytes(data[:8], "little") if len(data) >= 8 else _MAX_EXPORT_BYTES
        if len(data) >= 8 + size or len(data) > _MAX_EXPORT_BYTES:
            return data[8 : 8 + size]
        data += b"\n"
    return data[8:]
