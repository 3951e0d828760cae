"""Lines of mail servers as containers, journald and log collectors write them; the lines are invented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.imports.wrappers import plain_lines
from tests.support.logs import Import, file_of

TAG = "postfix/smtpd[71]: "
CLIENT = "sender.example[192.0.2.7]"
BODIES = [
    f"connect from {CLIENT}",
    f"4F2A61B3C9: client={CLIENT}",
    f"disconnect from {CLIENT} mail=1 rcpt=3 commands=2",
]
START_MS = 1_714_557_600_000


def journal(second: int, body: str, **fields: object) -> dict[str, object]:
    """Return an entry of the journal."""
    return {
        "__CURSOR": "s=1",
        "__REALTIME_TIMESTAMP": str((START_MS + second * 1000) * 1000),
        "_HOSTNAME": "mx",
        "SYSLOG_IDENTIFIER": "postfix/smtpd",
        "SYSLOG_PID": "71",
        "_PID": "71",
        "MESSAGE": body,
        **fields,
    }


def log_of(folder: Path, form: str) -> Path:
    """Write a connection, a line per second from 10:00:00 on, in a form with `{second}` and `{body}`."""
    lines = [form.replace("{second}", str(second)).replace("{body}", body) for second, body in enumerate(BODIES)]
    return file_of(folder, "\n".join(lines).encode() + b"\n")


TRADITIONAL = "May  1 10:00:0{second} mx " + TAG + "{body}"
FORMS = {
    "journalctl short-precise": "May 01 10:00:0{second}.000456 mx " + TAG + "{body}",
    "journalctl short-full": "Wed 2024-05-01 10:00:0{second} UTC mx " + TAG + "{body}",
    "journalctl short-full, offset": "Mi 2024-05-01 13:00:0{second} +03 mx " + TAG + "{body}",
    "journalctl short-iso": "2024-05-01T12:00:0{second}+0200 mx " + TAG + "{body}",
    "journalctl short-unix": "171455760{second}.000123 mx " + TAG + "{body}",
    "compose": "mail-1  | " + TRADITIONAL,
    "compose, coloured": "\x1b[36mmail-1  | \x1b[0m" + TRADITIONAL,
    "compose, timestamps": "mail-1  | 2024-05-01T10:00:0{second}.123456789Z " + TRADITIONAL,
    "docker logs -t": "2024-05-01T10:00:0{second}.123456789Z " + TRADITIONAL,
    "CRI": "2024-05-01T10:00:0{second}.123456789Z stdout F " + TRADITIONAL,
    "CRI, line without time": "2024-05-01T10:00:0{second}.000456789Z stdout F mx " + TAG + "{body}",
    "kubectl --prefix": "[pod/mail-0/postfix] " + TRADITIONAL,
    "stern": "mail-0 postfix " + TRADITIONAL,
    "grep": "mail.log.1:" + TRADITIONAL,
    "grep -n": "12:" + TRADITIONAL,
    "frame with its length": "101 <22>" + TRADITIONAL,
    "BusyBox": "May  1 10:00:0{second} mx mail.info " + TAG + "{body}",
    "facility first": "<22>May  1 10:00:0{second} mx " + TAG + "{body}",
    "no host": "May  1 10:00:0{second} " + TAG + "{body}",
    "level for host": "2024-05-01T10:00:0{second}+00:00 INFO    " + TAG + "{body}",
    "socklog": "2024-05-01_10:00:0{second}.12345 mail.info: " + TRADITIONAL,
    "year first": "2024 May  1 10:00:0{second} mx " + TAG + "{body}",
    "year last": "May  1 2024 10:00:0{second} mx " + TAG + "{body}",
    "day not padded": "May 1 10:00:0{second} mx " + TAG + "{body}",
    "German": "Mai 01 10:00:0{second} mx " + TAG + "{body}",
    "French": "mai 01 10:00:0{second} mx " + TAG + "{body}",
    "carriage return": TRADITIONAL + "\r",
    "byte order mark": "\ufeff" + TRADITIONAL,
    "NUL": "\0\0\0\0" + TRADITIONAL,
    "Docker json-file": '{"log":"' + TRADITIONAL + '\\n","stream":"stdout","time":"2024-05-01T10:00:09Z"}',
    "Filebeat": '{"@timestamp":"2024-05-01T10:00:09.000Z","host":{"name":"x"},"log":{"offset":1},'
    '"message":"' + TRADITIONAL + '"}',
    "Filebeat syslog": '{"@timestamp":"2024-05-01T10:00:0{second}.000Z","host":{"name":"mx"},'
    '"process":{"name":"postfix/smtpd","pid":71},"message":"{body}"}',
    "Vector": '{"appname":"postfix/smtpd","procid":71,"host":"mx","timestamp":"2024-05-01T10:00:0{second}Z",'
    '"message":"{body}"}',
    "rsyslog": '{"timereported":"2024-05-01T10:00:0{second}+00:00","hostname":"mx","syslogtag":"postfix/smtpd[71]:",'
    '"message":" {body}"}',
    "syslog-ng": '{"PROGRAM":"postfix/smtpd","PID":"71","HOST":"mx","DATE":"May  1 10:00:0{second}","MESSAGE":"{body}"}',
    "Fluentd file": "2024-05-01T10:00:00+00:00\tmail.info\t"
    '{"host":"mx","ident":"postfix/smtpd","pid":"71","time":171455760{second},"message":"{body}"}',
    "Elasticsearch": '{"_source":{"@timestamp":"2024-05-01T10:00:00Z","message":"' + TRADITIONAL + '"}}',
    "Loki": '{"labels":{},"line":"' + TRADITIONAL + '","timestamp":"2024-05-01T10:00:09Z"}',
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_wrapped_line_gives_the_event_and_time_of_the_plain_one(tmp_path: Path, name: str) -> None:
    imported = Import().postfix(log_of(tmp_path, FORMS[name]))

    assert imported.brief() == [("192.0.2.7", 1, 3, "accepted")]
    assert imported.events[0].ts == START_MS
    assert (imported.counts.lines, imported.counts.used, imported.counts.unreadable) == (3, 3, 0)


def test_journal_entries_as_json_give_the_event(tmp_path: Path) -> None:
    lines = [json.dumps(journal(second, body)) for second, body in enumerate(BODIES)]
    as_numbers = [json.dumps(journal(second, body, MESSAGE=list(body.encode()))) for second, body in enumerate(BODIES)]

    for entries in (lines, as_numbers, ["\x1e" + line for line in lines], ["data: " + line for line in lines]):
        imported = Import(year=None, zone=None).postfix(file_of(tmp_path, "\n".join(entries).encode()))
        assert imported.brief() == [("192.0.2.7", 1, 3, "accepted")]
        assert (imported.events[0].ts, imported.events[0].mta) == (START_MS, "mx")


def test_journal_export_with_binary_field_gives_the_event(tmp_path: Path) -> None:
    content = b""
    for second, body in enumerate(BODIES):
        for key, value in journal(second, body).items():
            text = str(value).encode()
            is_binary = key == "MESSAGE"
            size = len(text).to_bytes(8, "little")
            content += key.encode() + (b"\n" + size + text if is_binary else b"=" + text) + b"\n"
        content += b"\n"

    imported = Import(year=None, zone=None).postfix(file_of(tmp_path, content))

    assert imported.brief() == [("192.0.2.7", 1, 3, "accepted")]
    assert (imported.events[0].ts, imported.events[0].mta) == (START_MS, "mx")


def test_partial_lines_of_a_container_runtime_are_joined(tmp_path: Path) -> None:
    lines = []
    for second, body in enumerate(BODIES):
        time = f"2024-05-01T10:00:0{second}.5Z stdout"
        lines += [f"{time} P May  1 10:00:0{second} mx {TAG}{body[:9]}", f"{time} F {body[9:]}"]

    imported = Import().postfix(file_of(tmp_path, "\n".join(lines).encode()))

    assert imported.brief() == [("192.0.2.7", 1, 3, "accepted")]


@pytest.mark.parametrize(
    "line",
    [
        "May  1 10:00:02 mx postfix/smtpd[71]: message repeated 4 times: [ {body}]",
        "May  1 10:00:02 mx last message repeated 4 times",
        "May  1 10:00:02 last message repeated 4 times",
    ],
)
def test_repeated_line_counts_as_often_as_reported(tmp_path: Path, line: str) -> None:
    refusal = f"NOQUEUE: reject: RCPT from {CLIENT}: 554 5.7.1 <x@b.example>: Relay access denied; from=<>"
    lines = [f"May  1 10:00:0{i} mx {TAG}{body}" for i, body in enumerate([BODIES[0], refusal])]
    lines += [line.replace("{body}", refusal), f"May  1 10:00:03 mx {TAG}disconnect from {CLIENT}"]

    imported = Import().postfix(file_of(tmp_path, "\n".join(lines).encode()))

    assert imported.brief() == [("192.0.2.7", 1, 5, "rejected")]


def test_repetition_in_text_of_a_client_is_no_repetition() -> None:
    line = b"May  1 10:00:00 mx postfix/smtpd[71]: NOQUEUE: reject: helo=<]: message repeated 9 times: [ x]"

    assert list(plain_lines([line])) == [line]


def test_headings_of_the_journal_are_ignored(tmp_path: Path) -> None:
    heading = b"-- Logs begin at Wed 2024-05-01 00:00:00 UTC. --\n-- Boot 0123 --\n"
    log = log_of(tmp_path, TRADITIONAL)

    imported = Import().postfix(file_of(tmp_path, heading + log.read_bytes()))

    assert (len(imported.events), imported.counts.unreadable) == (1, 0)
    assert sum(imported.counts.ignored.values()) == 2


def test_unknown_month_is_reported_with_its_cause(tmp_path: Path) -> None:
    imported = Import().postfix(log_of(tmp_path, "touko 01 10:00:0{second} mx " + TAG + "{body}"))

    assert (imported.events, imported.counts.unreadable) == ([], 3)
    assert "LC_ALL=C" in imported.counts.examples[0]


@given(
    st.lists(
        st.binary(max_size=200) | st.sampled_from([json.dumps(journal(0, "x")).encode(), b"__CURSOR=1", b"MESSAGE"])
    )
)
def test_any_lines_are_returned_without_an_error(lines: list[bytes]) -> None:
    assert all(isinstance(line, bytes) for line in plain_lines(lines))


EXIM = "2024-05-01 10:00:00 1s2abc-0001AB-1C <= a@b.example H=(x y) [192.0.2.7] P=esmtp S=1"


@pytest.mark.parametrize(
    "line",
    [
        EXIM,
        "exim-1  | " + EXIM,
        "2024-05-01T10:00:00.123456789Z stdout F " + EXIM,
        json.dumps({"log": EXIM + "\n", "stream": "stdout", "time": "2024-05-01T10:00:09Z"}),
        json.dumps(journal(9, EXIM, SYSLOG_IDENTIFIER="exim4")),
        "May  1 10:00:00 mx mail.info exim[9]: " + EXIM[20:],
        "May  1 10:00:00 mail.info exim[9]: " + EXIM[20:],
        "May  1 10:00:09 exim[9]: " + EXIM,
        "Wed 2024-05-01 10:00:00 UTC mx exim4[9]: " + EXIM[20:],
    ],
)
def test_wrapped_line_of_exim_is_read_among_those_of_other_programs(tmp_path: Path, line: str) -> None:
    other = "May  1 10:00:00 mx dovecot: imap-login: Login: user=<x>\n"

    imported = Import().exim(file_of(tmp_path, (other + line).encode()))

    assert imported.brief() == [("192.0.2.7", 1, 1, "accepted")]
    assert imported.events[0].ts == START_MS
    assert (imported.counts.used, imported.counts.unreadable) == (1, 0)
    assert sum(imported.counts.ignored.values()) == 1
