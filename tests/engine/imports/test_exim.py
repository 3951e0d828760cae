"""Every form of line that the Exim importer reads; the lines are invented."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.imports.counts import ImportCounts
from engine.imports.exim import EximConnections, EximEntry
from tests.support.logs import Import, file_of

HOST = "mail.sender.example (helo.example) [192.0.2.7]"


def read(folder: Path, *bodies: str, time_format: str = "2024-05-01 10:{:02}:{:02} ", mta: str = "mx1") -> Import:
    """Import main log lines one second apart; a number among the bodies is a pause in seconds."""
    lines, second = [], 0
    for body in bodies:
        if body.isdigit():
            second += int(body)
            continue
        lines.append(time_format.format(second // 60, second % 60) + body)
        second += 1
    return Import().exim(file_of(folder, "\n".join(lines).encode()), mta=mta)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"1s2abc-0001AB-1C <= a@b.example H={HOST} P=esmtps X=TLS1.3 S=1234 id=x@y", ("192.0.2.7", 1, 1, "accepted")),
        ("1s2abc-000000001AB-1Cde <= a@b.example H=([10.1.2.3]) [192.0.2.7] P=smtp S=1", ("192.0.2.7", 1, 1, "accepted")),
        ("1s2abc-0001AB-1C <= <> R=1s2abc-0001AB-1D H=[2001:db8::7] P=smtp S=1", ("2001:db8::7", 1, 1, "accepted")),
        (f"1s2abc-0001AB-1C <= a@b.example DS H={HOST} I=[198.51.100.1]:25 P=smtp S=1", ("192.0.2.7", 1, 1, "accepted")),
        (f"1s2abc-0001AB-1C <= a@b.example H={HOST} S=9 id=x@y for c@d.example e@d.example", ("192.0.2.7", 1, 2, "accepted")),
        (f'1s2abc-0001AB-1C <= a@b.example H={HOST} S=9 T="ready for you"', ("192.0.2.7", 1, 1, "accepted")),
        (f"H={HOST} F=<a@b.example> rejected RCPT <c@d.example>: relay not permitted", ("192.0.2.7", 1, 1, "rejected")),
        (f"H={HOST} F=<a@b.example> temporarily rejected RCPT <c@d.example>: greylisted", ("192.0.2.7", 1, 1, "deferred")),
        (f"H={HOST} X=TLS1.2:x rejected MAIL <a@b.example>: no", ("192.0.2.7", 1, 1, "rejected")),
        ('H=[192.0.2.7] temporarily rejected connection in "connect" ACL: host deferred', ("192.0.2.7", 1, 1, "deferred")),
        (f"1s2abc-0001AB-1C H={HOST} F=<a@b.example> rejected after DATA: spam", ("192.0.2.7", 1, 1, "rejected")),
        (f"rejected EHLO from {HOST}: syntactically invalid argument(s): x_y", ("192.0.2.7", 1, 1, "rejected")),
        ("refused connection from [192.0.2.7] (host_reject_connection)", ("192.0.2.7", 1, 1, "rejected")),
        ("temporarily refused connection from [192.0.2.7]: not in reserve list", ("192.0.2.7", 1, 1, "deferred")),
        ("Connection from [192.0.2.7] refused: too many connections", ("192.0.2.7", 1, 1, "deferred")),
        (f'SMTP protocol synchronization error (input sent early): rejected "EHLO x" H={HOST} next input="x"',
         ("192.0.2.7", 1, 1, "rejected")),
        (f"no MAIL in SMTP connection from {HOST} D=1s C=EHLO,QUIT", ("192.0.2.7", 1, 1, "rejected")),
        (f"unexpected disconnection while reading SMTP command from {HOST} D=2s", ("192.0.2.7", 1, 1, "rejected")),
        (f"SMTP command timeout on TLS connection from {HOST} D=5m", ("192.0.2.7", 1, 1, "rejected")),
        (f"1s2abc-0001AB-1C F=a@b.example H={HOST} temporarily rejected by local_scan(): x", ("192.0.2.7", 1, 1, "deferred")),
        (f"1s2abc-0001AB-1C F=<> H={HOST} P=esmtp rejected by local_scan(): x", ("192.0.2.7", 1, 1, "rejected")),
        (f"1s2abc-0001AB-1C rejected from <a@b.example> H={HOST}: message too big: read=9", ("192.0.2.7", 1, 1, "rejected")),
        (f'rejected from <a@b.example> H={HOST}: too many "Received" headers', ("192.0.2.7", 1, 1, "rejected")),
        (f"unqualified recipient rejected: <info> H={HOST}", ("192.0.2.7", 1, 1, "rejected")),
        (f"unqualified sender rejected: <info> H={HOST}", ("192.0.2.7", 1, 1, "rejected")),
        (f"too many recipients: message rejected: sender=<a@b.example> H={HOST}", ("192.0.2.7", 1, 1, "rejected")),
        (f"rejected MAIL from {HOST}: no HELO/EHLO given", ("192.0.2.7", 1, 1, "rejected")),
        ("H=(foo bar) [192.0.2.7] F=<a@b.example> rejected RCPT <c@d.example>: no", ("192.0.2.7", 1, 1, "rejected")),
        ("1s2abc-0001AB-1C <= a@b.example H=(foo bar) [192.0.2.7] P=smtp S=1", ("192.0.2.7", 1, 1, "accepted")),
        (f"SMTP call from {HOST} dropped: too many syntax or protocol errors", ("192.0.2.7", 1, 1, "rejected")),
    ],
)  # fmt: skip
def test_line_without_connection_id_is_one_event(
    tmp_path: Path, line: str, expected: tuple[str, int, int, str]
) -> None:
    imported = read(tmp_path, line)
    assert imported.brief() == [expected]
    assert (imported.events[0].ts, imported.events[0].mta) == (1_714_557_600_000, "mx1")
    assert (imported.counts.unreadable, imported.counts.without_end) == (0, 0)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("login authenticator failed for (User) [192.0.2.7]:41000: 535 Incorrect authentication data (set_id=x)",
         ("192.0.2.7", 1, 1, "rejected")),
        ("plain authenticator failed for H=(User) [192.0.2.7] I=[198.51.100.1]:25: 435 Unable to authenticate at present",
         ("192.0.2.7", 1, 1, "deferred")),
        ('SMTP protocol error in "AUTH LOGIN" H=(x) [192.0.2.7]:6072 I=[198.51.100.1]:25 AUTH command used when not advertised',
         ("192.0.2.7", 1, 1, "rejected")),
        ('SMTP syntax error in "\\026\\"" H=(x) [192.0.2.7]:54222 Ci=15 NUL character', ("192.0.2.7", 1, 1, "rejected")),
    ],
)  # fmt: skip
def test_failed_login_or_command_is_one_attempt(tmp_path: Path, line: str, expected: tuple[str, int, int, str]) -> None:
    imported = read(tmp_path, line, line)

    assert imported.brief() == [expected]
    assert imported.counts.unreadable == 0


@pytest.mark.parametrize(
    "line",
    [
        "1s2abc-0001AB-1C <= root@mx.example U=root P=local S=400",
        "1s2abc-0001AB-1C <= <> R=1s2abc-0001AB-1D U=exim P=local S=400",
        '1s2abc-0001AB-1C <= "x H=evil [203.0.113.9] P="@b.example U=joe P=local S=4',
        "1s2abc-0001AB-1C => c@d.example R=x T=y H=relay.example [192.0.2.7] C=\"250 ok\"",
        "1s2abc-0001AB-1C ** c@d.example: host relay.example [192.0.2.7]: 550 rejected RCPT",
        "1s2abc-0001AB-1C H=relay.example [192.0.2.7]: SMTP error from remote mail server: 550 you are rejected RCPT",
        "1s2abc-0001AB-1C H=relay.example [192.0.2.7]:25: SMTP error from remote mail server: 550 you are rejected RCPT",
        "1s2abc-0001AB-1C H=relay.example [192.0.2.7] Connection refused",
        "1s2abc-0001AB-1C Completed",
        "SMTP connection from [192.0.2.7] (TCP/IP connection count = 1)",
        "SMTP connection from root",
        "exim 4.97 daemon started: pid=1, listening for SMTP on port 25",
        f"H={HOST} sender verify fail for <a@b.example>: response to RCPT",
        f"H={HOST} Warning: a remarkable connection",
    ],
)  # fmt: skip
def test_line_of_no_smtp_connection_is_no_event(tmp_path: Path, line: str) -> None:
    imported = read(tmp_path, line)
    assert (imported.events, imported.counts.unreadable) == ([], 0)


def test_refused_recipients_of_one_client_and_sender_within_a_minute_are_one_event(tmp_path: Path) -> None:
    def refused(ip: str, sender: str) -> str:
        return f"H=(x) [{ip}] F=<{sender}> rejected RCPT <c@d.example>: no"

    first, second = refused("192.0.2.7", "a@b.example"), refused("192.0.2.7", "z@b.example")
    imported = read(tmp_path, first, first, first, second, refused("192.0.2.8", "a@b.example"), "100", first)
    assert imported.brief() == [
        ("192.0.2.7", 1, 3, "rejected"), ("192.0.2.7", 1, 1, "rejected"), ("192.0.2.8", 1, 1, "rejected"),
        ("192.0.2.7", 1, 1, "rejected")]  # fmt: skip


def test_lost_connection_after_an_earlier_line_is_no_second_event(tmp_path: Path) -> None:
    arrival = f"1s2abc-0001AB-1C <= a@b.example H={HOST} P=smtp S=1"
    closed = f"SMTP connection from {HOST} D=1s closed by QUIT"
    nothing = f"no MAIL in SMTP connection from {HOST} D=1s"
    assert read(tmp_path, arrival, closed).brief() == [("192.0.2.7", 1, 1, "accepted")]
    assert read(tmp_path, closed, nothing).brief() == [("192.0.2.7", 1, 1, "rejected")]
    assert len(read(tmp_path, arrival, "300", closed).events) == 2


def with_ci(body: str, ci: str = "p9") -> str:
    return body.replace("[192.0.2.7]", f"[192.0.2.7] Ci={ci}").replace("connection from", f"connection Ci={ci} from", 1)


def with_port(body: str, port: str = "4711") -> str:
    return body.replace("[192.0.2.7]", f"[192.0.2.7]:{port} I=[198.51.100.1]:25")


def with_pid(body: str, pid: str = "81") -> str:
    return f"[{pid}] {body}"


CONNECTION = [
    f"1s2abc-0001AB-1C <= a@b.example H={HOST} P=smtp S=1 for c@d.example e@d.example",
    f"1s2abc-0001AB-1D <= a@b.example H={HOST} P=smtp S=1 for c@d.example",
    f"H={HOST} F=<a@b.example> rejected RCPT <c@d.example>: no",
    f"SMTP connection from {HOST} D=1s closed by QUIT",
]


@pytest.mark.parametrize("marked", [with_ci, with_port, with_pid])
def test_connection_with_an_id_is_one_event(tmp_path: Path, marked: object) -> None:
    assert callable(marked)
    first, second = ([marked(body, name) for body in CONNECTION] for name in ("1", "2"))
    interleaved = [line for pair in zip(first, second, strict=True) for line in pair]
    imported = read(tmp_path, *interleaved)
    assert imported.brief() == [("192.0.2.7", 2, 4, "accepted")] * 2
    assert [event.ts for event in imported.events] == [1_714_557_600_000, 1_714_557_601_000]
    assert imported.counts.without_end == 0


def test_connection_with_an_opening_line_begins_there(tmp_path: Path) -> None:
    opened = "SMTP connection from [192.0.2.7]:4711 (TCP/IP connection count = 1)"
    imported = read(tmp_path, opened, "5", *map(with_port, CONNECTION))
    assert [(event.ts, event.messages) for event in imported.events] == [(1_714_557_600_000, 2)]
    unused = read(tmp_path, opened, with_port(CONNECTION[-1]))
    assert unused.brief() == [("192.0.2.7", 1, 1, "rejected")]


def test_connection_id_behind_fast_open_is_read(tmp_path: Path) -> None:
    first, second, _, last = map(with_ci, CONNECTION)

    imported = read(tmp_path, first.replace("] Ci=", "] TFO* Ci="), second.replace("] Ci=", "]:25 TFO Ci="), last)

    assert imported.brief() == [("192.0.2.7", 2, 3, "accepted")]


def test_connection_without_an_end_is_an_event_after_ten_minutes(tmp_path: Path) -> None:
    first, later = with_port(CONNECTION[0], "1"), with_port(CONNECTION[1], "1")
    assert read(tmp_path, first, "500", later).brief() == [("192.0.2.7", 2, 3, "accepted")]
    imported = read(tmp_path, first, "700", *(with_port(body, "2") for body in CONNECTION), later)
    assert imported.brief() == [
        ("192.0.2.7", 1, 2, "accepted"),
        ("192.0.2.7", 2, 4, "accepted"),
        ("192.0.2.7", 1, 1, "accepted"),
    ]
    assert imported.counts.without_end == 2


def test_process_id_with_another_client_is_another_connection(tmp_path: Path) -> None:
    other = CONNECTION[1].replace("192.0.2.7", "192.0.2.8")
    assert read(tmp_path, with_pid(CONNECTION[0]), with_pid(other)).brief() == [
        ("192.0.2.7", 1, 2, "accepted"), ("192.0.2.8", 1, 1, "accepted")]  # fmt: skip


@pytest.mark.parametrize(
    "time_format",
    ["2024-05-01 10:{:02}:{:02} ", "2024-05-01 12:{:02}:{:02} +0200 ", "2024-05-01 10:{:02}:{:02}.000 ",
     "2024-05-01 06:{:02}:{:02}.000 -0400 [12] ", "May  1 10:{0:02}:{1:02} mx1 exim[12]: 2024-05-01 10:{0:02}:{1:02} ",
     "May  1 10:{:02}:{:02} mx1 exim[12]: ", "2024-05-01T10:{:02}:{:02}+00:00 mx1 exim[12]: ",
     "<22>May  1 10:{:02}:{:02} mx1 exim4[12]: [1/2] "],
)  # fmt: skip
def test_every_form_of_timestamp_is_read(tmp_path: Path, time_format: str) -> None:
    imported = read(tmp_path, CONNECTION[1], time_format=time_format, mta="" if "mx1" in time_format else "mx1")
    assert [(event.ts, event.ip, event.mta) for event in imported.events] == [(1_714_557_600_000, "192.0.2.7", "mx1")]


def test_quoted_sender_address_names_no_other_host(tmp_path: Path) -> None:
    line = f'1s2abc-0001AB-1C <= "x\\" H=evil [203.0.113.9] P="@b.example H={HOST} P=smtp S=1'
    assert read(tmp_path, line).brief() == [("192.0.2.7", 1, 1, "accepted")]


def test_unreadable_lines_and_clients_without_address_are_counted(tmp_path: Path) -> None:
    imported = read(
        tmp_path, "1s2abc-0001AB-1C <= a@b.example H=x [] P=smtp S=1", "H=[fe80::1%2] rejected RCPT <x>: no"
    )
    assert (imported.events, imported.counts.without_address) == ([], 2)
    imported = Import().exim(file_of(tmp_path, b"\xff\xfe\nnoise\n2024-13-01 10:00:00 x <= y H=[192.0.2.7]\n\n"))
    assert (imported.events, imported.counts.unreadable) == ([], 3)


ENTRIES = st.builds(
    EximEntry,
    st.integers(0, 10_000_000),
    st.sampled_from([b"", b"mx"]),
    st.sampled_from([b"", b"1", b"2"]),
    st.sampled_from([*CONNECTION, *map(with_ci, CONNECTION), *map(with_port, CONNECTION)]).map(str.encode)
    | st.binary(max_size=60),
)


@given(st.lists(ENTRIES, max_size=60))
def test_any_lines_in_any_order_make_events(entries: list[EximEntry]) -> None:
    for event in EximConnections(ImportCounts(), "mx").events(entries):
        assert 1 <= event.messages <= event.recipients


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=120)), st.booleans())
def test_arbitrary_bytes_never_raise(tmp_path: Path, lines: list[bytes], has_time: bool) -> None:
    prefix = b"2024-05-01 10:00:00 " if has_time else b""
    Import().exim(file_of(tmp_path, b"\n".join(prefix + line for line in lines)))
