"""Return JSON records of log collectors as lines of a log file.

A record has a message, and either the message is a whole line with its own timestamp, or other fields have time, host,
program and process id. The names of the fields are those that journald, Docker, Filebeat, Vector, Fluent Bit, Fluentd,
rsyslog, syslog-ng, Loki, GELF and Google Cloud write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

_MESSAGE = (
    "MESSAGE",
    "message",
    "msg",
    "log",
    "line",
    "textPayload",
    "full_message",
    "short_message",
    "event.original",
)
_PROGRAM = (
    "SYSLOG_IDENTIFIER", "PROGRAM", "programname", "appname", "app_name", "app-name", "ident", "program", "process.name",
    "log.syslog.appname", "_application_name", "_COMM",
)  # fmt: skip
_PID = ("SYSLOG_PID", "PID", "procid", "proc_id", "pid", "process.pid", "log.syslog.procid", "_process_id", "_PID")
_HOST = ("_HOSTNAME", "HOST", "hostname", "host", "host.hostname", "host.name", "fromhost", "source", "agent.hostname")
_TIME = (
    "_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP", "@timestamp", "timestamp", "timereported", "timegenerated", "time",
    "ISODATE", "DATE", "date", "ts",
)  # fmt: skip
_TAG = ("syslogtag", "LEGACY_MSGHDR")
_INNER = ("_source", "jsonPayload", "journald", "journal", "fields")
_OWN_TIME = re.compile(
    rb"\s*(?:<\d{1,3}>|(?:\d{4} )?[A-Za-z\x80-\xff]{3,6}\.? +\d{1,2} (?:\d{4} )?\d\d:\d\d:\d\d"
    rb"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)"
)
_OWN_TAG = re.compile(rb"\s*[\w./-]+\[\d+\]: ")
_MAX_VALUE_BYTES = 1 << 20


def line_of_json(line: bytes) -> bytes:
    """Return a JSON record as a line of a log file, or the line itself if it is no such record."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line
    return (line_of_record(record) or line) if isinstance(record, dict) else line


def line_of_record(record: Mapping[str, object]) -> bytes | None:
    """Return a record as a line of a log file, None without a message."""
    message = _text(record, _MESSAGE)
    if message is None:
        inner = next((record[name] for name in _INNER if isinstance(record.get(name), dict)), None)
        return line_of_record(inner) if isinstance(inner, dict) else None
    message = message.rstrip(b"\r\n")
    program = _text(record, _PROGRAM)
    if _OWN_TIME.match(message) and not (program and program.startswith(b"exim")):
        return message.lstrip()
    time = _time(record)
    if time is None:
        return message
    host = (_text(record, _HOST) or b"").strip()
    before = b"%s %s " % (time, host) if host and b" " not in host else time + b" "
    if _OWN_TAG.match(message):
        return before + message.lstrip()
    tag = _text(record, _TAG)
    if tag:
        return before + tag.rstrip(b": ") + b": " + message.lstrip()
    pid = _text(record, _PID)
    if program is None:
        return before + message.lstrip()
    return b"%s%s%s: %s" % (before, program, b"[%s]" % pid if pid else b"", message.lstrip())


def _text(record: Mapping[str, object], names: tuple[str, ...]) -> bytes | None:
    """Return the first of several fields that has a text or number. A name with dots is a field or a path."""
    for name in names:
        value = record.get(name)
        if value is None and "." in name:
            inner: object = record
            for part in name.split("."):
                inner = inner.get(part) if isinstance(inner, dict) else None
            value = inner
        if isinstance(value, list):
            value = _bytes_of(value)
        if isinstance(value, bytes):
            return value
        if isinstance(value, str) and value:
            return value.encode("utf-8", "replace")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value).encode()
    return None


def _bytes_of(values: list[object]) -> object:
    """Return the value of a field that journald writes as a list: numbers of bytes, or several values."""
    if values and all(isinstance(value, int) and 0 <= value < 256 for value in values):
        return bytes(value for value in values[:_MAX_VALUE_BYTES] if isinstance(value, int))
    return values[0] if values else None


def _time(record: Mapping[str, object]) -> bytes | None:
    """Return the time of a record in a form that a log file has: text as it is, numbers (s, ms, us, ns) as ISO 8601."""
    text = _text(record, _TIME)
    if text is None or not re.fullmatch(rb"\d{9,20}(\.\d+)?", text):
        return text
    whole, _, fraction = text.partition(b".")
    digits = whole[:10] + b"." + (whole[10:] + fraction if len(whole) > 10 else fraction or b"0")
    return datetime.fromtimestamp(float(digits), UTC).isoformat(timespec="milliseconds")[:23].encode() + b"Z"
