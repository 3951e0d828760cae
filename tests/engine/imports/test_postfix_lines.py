"""Every form of line that the Postfix importer reads, and lines that it doesn't; the lines are invented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.imports.counts import ImportCounts
from engine.imports.postfix import SERVICES, PostfixConnections
from engine.imports.syslog import SyslogEntry, plain_form
from tests.support.logs import Import, file_of, syslog_lines
from topics.events import ConnectionEvent
from topics.keys import key_of

CLIENT = "sender.example[192.0.2.7]"
CONNECT, DISCONNECT = f"connect from {CLIENT}", f"disconnect from {CLIENT}"
REJECT_5 = (
    f"NOQUEUE: reject: RCPT from {CLIENT}: 554 5.7.1 <a@b.example>: Relay access denied; from=<> to=<a@b.example>"
)
REJECT_4 = f"NOQUEUE: reject: RCPT from {CLIENT}: 450 4.7.1 <a@b.example>: Greylisted; from=<> to=<a@b.example>"
ACCEPTED = f"4F2A61B3C9: client={CLIENT}"
SMTPD, QMGR, CLEANUP = "postfix/smtpd[71]: ", "postfix/qmgr[9]: ", "postfix/cleanup[80]: "


def read(folder: Path, *bodies: str, program: str = SMTPD) -> Import:
    """Import lines; a body that begins with `postfix` has its own tag."""
    lines = [body if body.startswith(("postfix", "other")) else program + body for body in bodies]
    return Import().postfix(file_of(folder, syslog_lines(lines)))


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        ([ACCEPTED], (1, 1, "accepted")),
        ([ACCEPTED, "5A: client=sender.example[192.0.2.7], sasl_method=PLAIN, sasl_username=joe[x]"], (2, 2, "accepted")),
        (["4bXkq31PmTz2Yf: client=" + CLIENT], (1, 1, "accepted")),
        (["NOQUEUE: client=" + CLIENT], (1, 1, "accepted")),
        ([REJECT_5], (1, 1, "rejected")),
        ([REJECT_5, REJECT_5, REJECT_5], (1, 3, "rejected")),
        ([REJECT_4], (1, 1, "deferred")),
        ([REJECT_4, REJECT_5], (1, 2, "rejected")),
        ([REJECT_5, ACCEPTED], (1, 2, "accepted")),
        ([ACCEPTED, REJECT_4.replace("NOQUEUE", "4F2A61B3C9")], (1, 2, "accepted")),
        ([f"NOQUEUE: reject: MAIL from {CLIENT}: 452 4.3.1 Insufficient system storage; proto=ESMTP"], (1, 1, "deferred")),
        ([f"NOQUEUE: reject: VRFY from {CLIENT}: 550 5.1.1 <x>: no"], (1, 1, "rejected")),
        ([f"NOQUEUE: milter-reject: CONNECT from {CLIENT}: 451 4.7.1 try again later"], (1, 1, "deferred")),
        ([f"NOQUEUE: milter-reject: RCPT from {CLIENT}: 550 5.7.1 Command rejected; from=<x>"], (1, 1, "rejected")),
        ([ACCEPTED, f"4F2A61B3C9: reject: DATA from {CLIENT}: 550 5.5.3 <DATA>: no; from=<>"], (1, 1, "rejected")),
        (["NOQUEUE: client=" + CLIENT, "proxy-reject: END-OF-MESSAGE: 550 5.7.1 spam; from=<>"], (1, 1, "rejected")),
        (["NOQUEUE: client=" + CLIENT, "proxy-accept: END-OF-MESSAGE: 250 2.0.0 Ok; from=<>"], (1, 1, "accepted")),
        ([f"warning: Connection rate limit exceeded: 31 from {CLIENT} for service smtp"], (1, 1, "deferred")),
        ([f"warning: Connection concurrency limit exceeded: 51 from {CLIENT} for service smtp"], (1, 1, "deferred")),
        ([f"warning: Message delivery request rate limit exceeded: 9 from {CLIENT} for service smtp"], (1, 1, "deferred")),
        (["warning: hostname sender.example does not resolve to address 192.0.2.7"], (1, 1, "rejected")),
        ([f"lost connection after AUTH from {CLIENT}"], (1, 1, "rejected")),
        ([ACCEPTED, f"lost connection after DATA (1234 bytes) from {CLIENT}"], (1, 1, "accepted")),
        ([f"improper command pipelining after HELO from {CLIENT}: QUIT"], (1, 1, "rejected")),
        ([f"NOQUEUE: reject_warning: RCPT from {CLIENT}: 554 5.7.1 no; from=<>", ACCEPTED], (1, 1, "accepted")),
        ([f"NOQUEUE: filter: RCPT from {CLIENT}: <x>: triggers FILTER y; from=<>", ACCEPTED], (1, 1, "accepted")),
        ([], (1, 1, "rejected")),
    ],
)  # fmt: skip
def test_connection_is_one_event_with_the_outcome_of_its_lines(
    tmp_path: Path, between: list[str], expected: tuple[int, int, str]
) -> None:
    imported = read(tmp_path, CONNECT, *between, DISCONNECT)
    assert imported.brief() == [("192.0.2.7", *expected)]
    assert (imported.events[0].mta, imported.events[0].ts) == ("mx", 1_714_557_600_000)
    assert (imported.counts.unreadable, imported.counts.without_end) == (0, 0)


@pytest.mark.parametrize(
    ("counts", "between", "expected"),
    [
        (" ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5", [ACCEPTED], (1, 1, "accepted")),
        (" ehlo=1 mail=3 rcpt=2/9 data=1 rset=2 quit=1 commands=18", [REJECT_5, ACCEPTED], (3, 9, "accepted")),
        (" ehlo=1 mail=0/2 quit=1 commands=2/4", [REJECT_5], (2, 1, "rejected")),
        (" ehlo=1 auth=0/4 commands=1/5", [], (1, 1, "rejected")),
        (" commands=0/0", [], (1, 1, "rejected")),
        (" mail=99999999999999999999 rcpt=99999999999999999999", [ACCEPTED], (1_000_000, 1_000_000, "accepted")),
    ],
)
def test_command_counts_of_disconnect_line_are_messages_and_recipients(
    tmp_path: Path, counts: str, between: list[str], expected: tuple[int, int, str]
) -> None:
    assert read(tmp_path, CONNECT, *between, DISCONNECT + counts).brief() == [("192.0.2.7", *expected)]


def test_recipients_are_those_of_qmgr(tmp_path: Path) -> None:
    active = "4F2A61B3C9: from=<x, nrcpt=7 (queue@b.example>, size=512, nrcpt=5 (queue active)"
    again = "4F2A61B3C9: from=<x@b.example>, size=512, nrcpt=9 (queue active)"
    before = read(tmp_path, CONNECT, ACCEPTED, QMGR + active, DISCONNECT, QMGR + again)
    after = read(tmp_path, CONNECT, ACCEPTED, REJECT_5, DISCONNECT, QMGR + active, QMGR + again)
    assert before.brief() == [("192.0.2.7", 1, 5, "accepted")]
    assert after.brief() == [("192.0.2.7", 1, 6, "accepted")]


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        (f"4F2A61B3C9: milter-reject: END-OF-MESSAGE from {CLIENT}: 5.7.1 Spam: 4.7.1 no; from=<>", "rejected"),
        (f"4F2A61B3C9: milter-reject: END-OF-MESSAGE from {CLIENT}: 4.7.1 Try again later; from=<>", "deferred"),
        (f"4F2A61B3C9: reject: header Subject: 4.0.0 x from {CLIENT}; from=<> helo=<x>: 5.7.1 rejected by policy", "rejected"),
        (f"4F2A61B3C9: reject: body x from {CLIENT}; from=<>: message content rejected", "rejected"),
        (f"4F2A61B3C9: warning: header Subject: x from {CLIENT}; from=<>", "accepted"),
        (f"5555555555: milter-reject: END-OF-MESSAGE from {CLIENT}: 5.7.1 another's; from=<>", "accepted"),
    ],
)  # fmt: skip
def test_message_refused_by_a_filter_is_not_accepted(tmp_path: Path, line: str, outcome: str) -> None:
    assert read(tmp_path, CONNECT, ACCEPTED, CLEANUP + line, DISCONNECT).brief() == [("192.0.2.7", 1, 1, outcome)]


@pytest.mark.parametrize(
    "tag", ["postfix/smtps/smtpd", "postfix/submission/smtpd", "postfix-in/smtpd", "mail/mx2/25/smtpd"]
)
def test_every_instance_and_service_of_smtpd_is_read(tmp_path: Path, tag: str) -> None:
    lines = syslog_lines([CONNECT, ACCEPTED, DISCONNECT], program=f"{tag}[5]: ")
    assert Import().postfix(file_of(tmp_path, lines)).brief() == [("192.0.2.7", 1, 1, "accepted")]


@pytest.mark.parametrize(
    ("client", "ip"),
    [
        ("unknown[2001:db8::25]", "2001:db8::25"),
        ("unknown[192.0.2.9]:51234", "192.0.2.9"),
        ("unknown[2001:db8::25]:465", "2001:db8::25"),
        ("x-1.sub.example[::ffff:192.0.2.9]", "::ffff:192.0.2.9"),
    ],
)
def test_client_with_port_or_ipv6_has_its_address(tmp_path: Path, client: str, ip: str) -> None:
    imported = read(tmp_path, f"connect from {client}", f"4F: client={client}", f"disconnect from {client}")
    assert imported.brief() == [(ip, 1, 1, "accepted")]


@pytest.mark.parametrize(
    "client", ["unknown[unknown]", "localhost[unix socket]", "x[fe80::1%eth0]", "x", "", "[", "]["]
)
def test_client_without_address_is_counted(tmp_path: Path, client: str) -> None:
    imported = read(tmp_path, f"connect from {client}", f"4F: client={client}", f"disconnect from {client}")
    assert (imported.events, imported.counts.without_address) == ([], 1)


@pytest.mark.parametrize(
    "form",
    [
        "May  1 10:00:00 mx {}",
        "May 01 10:00:00 mx {}",
        "<22>May  1 10:00:00 mx {}",
        "May  1 10:00:00 <mail.info> mx {}",
        "2024-05-01T10:00:00+00:00 mx {}",
        "2024-05-01T12:00:00.000123+02:00 mx {}",
        "2024-05-01T10:00:00 mx {}",
    ],
)
def test_every_form_of_syslog_file_is_read(tmp_path: Path, form: str) -> None:
    lines = [form.format(SMTPD + body) for body in (CONNECT, ACCEPTED, DISCONNECT)]
    imported = Import().postfix(file_of(tmp_path, "\n".join(lines).encode()))
    assert imported.events == [ConnectionEvent(1_714_557_600_000, "192.0.2.7", "mx", 1, 1, "accepted")]


def test_rfc_5424_and_solaris_lines_are_read(tmp_path: Path) -> None:
    modern = [f"<22>1 2024-05-01T10:00:00Z mx postfix/smtpd 71 - - {body}" for body in (CONNECT, ACCEPTED, DISCONNECT)]
    structured = [
        f'<22>1 2024-05-01T10:00:00Z mx postfix/smtpd 71 - [a b="c"] {body}' for body in (CONNECT, ACCEPTED, DISCONNECT)
    ]
    solaris = [
        f"May  1 10:00:00 mx postfix/smtpd[71]: [ID 197553 mail.info] {body}"
        for body in (CONNECT, ACCEPTED, DISCONNECT)
    ]
    for lines in (modern, structured, solaris):
        imported = Import().postfix(file_of(tmp_path, "\n".join(lines).encode()))
        assert imported.brief() == [("192.0.2.7", 1, 1, "accepted")]
    assert plain_form(b"no priority") == b"no priority"


def test_concurrent_connections_are_separate_events_in_order_of_start(tmp_path: Path) -> None:
    imported = read(
        tmp_path,
        "postfix/smtpd[1]: connect from a[192.0.2.1]",
        "postfix/smtpd[2]: connect from b[192.0.2.2]",
        "postfix/smtpd[2]: 1A: client=b[192.0.2.2]",
        "postfix/smtpd[2]: disconnect from b[192.0.2.2]",
        "postfix/smtpd[2]: connect from c[192.0.2.3]",
        "postfix/smtpd[2]: disconnect from c[192.0.2.3]",
        "postfix/smtpd[1]: 1B: client=a[192.0.2.1]",
        "postfix/smtpd[1]: 1C: client=a[192.0.2.1]",
        "postfix/smtpd[1]: disconnect from a[192.0.2.1]",
    )
    assert imported.brief() == [
        ("192.0.2.1", 2, 2, "accepted"),
        ("192.0.2.2", 1, 1, "accepted"),
        ("192.0.2.3", 1, 1, "rejected"),
    ]


def test_connections_without_start_or_end_are_events_and_counted(tmp_path: Path) -> None:
    imported = read(tmp_path, ACCEPTED, DISCONNECT, CONNECT, REJECT_5)
    assert imported.brief() == [("192.0.2.7", 1, 1, "accepted"), ("192.0.2.7", 1, 1, "rejected")]
    assert (imported.counts.without_start, imported.counts.without_end) == (1, 1)
    assert read(tmp_path, DISCONNECT, f"lost connection after DATA from {CLIENT}").events == []


def test_new_connection_of_a_process_ends_its_last_one(tmp_path: Path) -> None:
    imported = read(tmp_path, CONNECT, ACCEPTED, "connect from b[192.0.2.2]", "disconnect from b[192.0.2.2]")
    assert imported.brief() == [("192.0.2.7", 1, 1, "accepted"), ("192.0.2.2", 1, 1, "rejected")]
    assert imported.counts.without_end == 1


def test_connection_silent_for_an_hour_is_settled(tmp_path: Path) -> None:
    silent = SyslogEntry(0, b"smtpd", b"mx postfix/smtpd[1", b"connect from a[192.0.2.1]")
    others = [
        SyslogEntry(ms, b"smtpd", b"mx postfix/smtpd[2", f"{verb} from b[192.0.2.2]".encode())
        for ms in range(60_000, 7_200_000, 60_000)
        for verb in ("connect", "disconnect")
    ]
    reached = -1

    def entries() -> Iterator[SyslogEntry]:
        nonlocal reached
        for entry in [silent, *others]:
            reached = entry.ts
            yield entry

    counts = ImportCounts()
    events = PostfixConnections(counts).events(entries())
    assert next(events).ip == "192.0.2.1"
    assert 3_600_000 < reached <= 3_720_000
    assert len(list(events)) == len(others) // 2
    assert counts.without_end == 1


def test_logs_of_one_host_are_joined_and_of_several_merged(tmp_path: Path) -> None:
    whole = syslog_lines([CONNECT, ACCEPTED, REJECT_5, DISCONNECT], program=SMTPD)
    head, tail = whole[: whole.index(b"May  1 10:00:02")], whole[whole.index(b"May  1 10:00:02") :]
    other = whole.replace(b" mx ", b" mx2 ").replace(b":00 ", b":01 ").replace(b"192.0.2.7", b"192.0.2.8")
    paths = [file_of(tmp_path, part, str(i)) for i, part in enumerate([tail, other, head])]
    imported = Import().postfix(*paths)
    assert [(event.ip, event.mta, event.recipients) for event in imported.events] == [
        ("192.0.2.7", "mx", 2),
        ("192.0.2.8", "mx2", 2),
    ]
    assert (imported.counts.without_start, imported.counts.without_end) == (0, 0)


def test_text_written_by_a_client_is_never_read_as_a_line_of_smtpd(tmp_path: Path) -> None:
    forged = "x/smtpd[71]: connect from evil[203.0.113.9]"
    imported = read(
        tmp_path,
        f"other: auth failed for <{forged}>",
        f"other[5]: user={forged}",
        f"postfix/qmgr[9]: 4F2A61B3C9: from=<{forged}@b.example>, size=1, nrcpt=2 (queue active)",
        CONNECT,
        f"NOQUEUE: reject: RCPT from {CLIENT}: 550 5.1.1 no; from=<> helo=<]: disconnect from {CLIENT}>",
        f"NOQUEUE: reject: RCPT from {CLIENT}: 450 4.1.1 no; from=<> helo=<: client=x[203.0.113.9]>",
        DISCONNECT,
    )
    assert imported.brief() == [("192.0.2.7", 1, 2, "rejected")]


def test_unreadable_lines_are_counted_with_examples(tmp_path: Path) -> None:
    noise = (
        b"\xff\xfe\x00garbage\nMay 99 10:00:00 mx postfix/smtpd[1]: connect from a[192.0.2.1]\n\nplain text\x1b[31m\n"
    )
    imported = Import().postfix(
        file_of(tmp_path, noise + syslog_lines([CONNECT, DISCONNECT], program=SMTPD) + b"more\n")
    )
    assert imported.brief() == [("192.0.2.7", 1, 1, "rejected")]
    assert (imported.counts.lines, imported.counts.unreadable, len(imported.counts.examples)) == (7, 4, 3)
    assert not any(re.search(r"[\x00-\x1f]", example) for example in imported.counts.examples)


SCREEN = "postfix/postscreen[40]: "
PEER = "[192.0.2.7]:4711"
SCREENED = SCREEN + f"CONNECT from {PEER} to [198.51.100.1]:25"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([f"PREGREET 14 after 0.1 from {PEER}: EHLO x", f"DISCONNECT {PEER}"], "rejected"),
        ([f"DNSBL rank 6 for {PEER}", f"NOQUEUE: reject: RCPT from {PEER}: 550 5.7.1 Service unavailable; client [192.0.2.7]",
          f"DISCONNECT {PEER}"], "rejected"),
        ([f"NOQUEUE: reject: RCPT from {PEER}: 450 4.3.2 Service currently unavailable; from=<>", f"PASS NEW {PEER}",
          f"DISCONNECT {PEER}"], "deferred"),
        ([f"NOQUEUE: reject: CONNECT from {PEER}: too many connections", f"DISCONNECT {PEER}"], "deferred"),
        ([f"reject: connect from {PEER}: all screening ports busy", f"DISCONNECT {PEER}"], "deferred"),
        ([f"HANGUP after 1.2 from {PEER} in tests before SMTP handshake", f"DISCONNECT {PEER}"], "rejected"),
        ([f"BLACKLISTED {PEER}", f"DISCONNECT {PEER}"], "rejected"),
    ],
)  # fmt: skip
def test_connection_ended_by_postscreen_is_an_event(tmp_path: Path, lines: list[str], expected: str) -> None:
    imported = read(tmp_path, SCREENED, *(SCREEN + line for line in lines))
    assert imported.brief() == [("192.0.2.7", 1, 1, expected)]
    assert (imported.counts.without_end, imported.counts.handed_over) == (0, 0)


@pytest.mark.parametrize(
    "line", [f"PASS OLD {PEER}", f"PASS NEW {PEER}", f"WHITELISTED {PEER}", f"ALLOWLISTED {PEER}", None]
)
def test_connection_passed_on_by_postscreen_is_one_event_of_smtpd(tmp_path: Path, line: str | None) -> None:
    imported = read(tmp_path, SCREENED, *([SCREEN + line] if line else []), CONNECT, ACCEPTED, DISCONNECT)
    assert imported.brief() == [("192.0.2.7", 1, 1, "accepted")]
    assert (imported.counts.without_end, imported.counts.handed_over) == (0, 1)


BODIES = st.sampled_from(
    [CONNECT, DISCONNECT, ACCEPTED, REJECT_4, REJECT_5, "4F2A61B3C9: from=<>, size=1, nrcpt=3 (queue active)",
     f"4F2A61B3C9: milter-reject: END-OF-MESSAGE from {CLIENT}: 5.7.1 no", f"CONNECT from {PEER} to [198.51.100.1]:25",
     f"PASS NEW {PEER}", f"PASS OLD {PEER}", f"DISCONNECT {PEER}", "connect from unknown[unknown]"]
)  # fmt: skip
ENTRIES = st.builds(
    SyslogEntry,
    st.integers(0, 10_000_000),
    st.sampled_from(sorted(SERVICES)),
    st.sampled_from([b"mx postfix/smtpd[1", b"mx postfix/smtpd[2", b"mx postfix/x[3", b""]),
    BODIES.map(str.encode) | st.binary(max_size=40),
)


@given(st.lists(ENTRIES, max_size=60))
def test_any_lines_in_any_order_make_events_of_the_contract(entries: list[SyslogEntry]) -> None:
    counts = ImportCounts()
    events = list(PostfixConnections(counts).events(entries))
    for event in events:
        key_of(event.ip)
        assert 1 <= event.messages <= 1_000_000
        assert 1 <= event.recipients <= 1_000_000
    opened = sum(entry.service == b"smtpd" and entry.body.startswith(b"connect from ") for entry in entries)
    assert len(events) + counts.without_address + counts.handed_over >= opened


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=120)), st.data())
def test_arbitrary_bytes_never_raise(tmp_path: Path, lines: list[bytes], data: st.DataObject) -> None:
    tagged = [b"May  1 10:00:00 mx postfix/smtpd[1]: " + line if data.draw(st.booleans()) else line for line in lines]
    Import().postfix(file_of(tmp_path, b"\n".join(tagged)))
