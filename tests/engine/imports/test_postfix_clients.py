"""Clients behind proxies, services with names of their own, and the sums of lines, in Postfix logs; the lines are invented."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.logs import Import, file_of, syslog_lines

CLIENT = "sender.example[192.0.2.7]"
CONNECT, DISCONNECT = f"connect from {CLIENT}", f"disconnect from {CLIENT}"
REJECT_5 = f"NOQUEUE: reject: RCPT from {CLIENT}: 554 5.7.1 <a@b.example>: Relay access denied; from=<>"
ACCEPTED = f"4F2A61B3C9: client={CLIENT}"
SMTPD, QMGR, CLEANUP = "postfix/smtpd[71]: ", "postfix/qmgr[9]: ", "postfix/cleanup[80]: "
SCREEN = "postfix/postscreen[40]: "


def read(folder: Path, *bodies: str) -> Import:
    """Import lines; a body that begins with `postfix` or `other` has its own tag."""
    lines = [body if body.startswith(("postfix", "other")) else SMTPD + body for body in bodies]
    return Import().postfix(file_of(folder, syslog_lines(lines)))


PROXY = "localhost[127.0.0.1]"


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        ([ACCEPTED], "accepted"),
        ([REJECT_5], "rejected"),
        ([f"warning: Connection rate limit exceeded: 31 from {CLIENT} for service smtp"], "deferred"),
        ([], "rejected"),
    ],
)
def test_client_named_behind_a_proxy_is_the_one_of_the_event(tmp_path: Path, lines: list[str], outcome: str) -> None:
    imported = read(tmp_path, f"connect from {PROXY}", *lines, DISCONNECT + " ehlo=2 xclient=1 commands=3")

    assert imported.brief() == [("192.0.2.7", 1, 1, outcome)]
    assert imported.events[0].ts == 1_714_557_600_000
    assert (imported.counts.without_start, imported.counts.without_end) == (0, 0)


def test_clients_that_share_a_proxy_connection_are_separate_events(tmp_path: Path) -> None:
    second = "5A2A61B3C9: client=b.example[192.0.2.8]"

    imported = read(
        tmp_path, f"connect from {PROXY}", ACCEPTED, second, "disconnect from b.example[192.0.2.8] mail=2 rcpt=2"
    )

    assert imported.brief() == [("192.0.2.7", 1, 1, "accepted"), ("192.0.2.8", 1, 1, "accepted")]
    assert imported.counts.without_end == 0


def test_mail_that_a_content_filter_brings_back_is_no_event(tmp_path: Path) -> None:
    back = f"5F2A61B3C9: client={PROXY}, orig_queue_id=4F2A61B3C9, orig_client={CLIENT}"

    imported = read(tmp_path, f"connect from {PROXY}", back, f"disconnect from {PROXY} mail=1 rcpt=1")

    assert (imported.events, imported.counts.reinjected) == ([], 1)


def test_services_with_names_of_their_own_share_a_queue(tmp_path: Path) -> None:
    smtpd = "other-in/smtpd[71]: "
    lines = [smtpd + CONNECT, smtpd + ACCEPTED]
    refused = CLEANUP + f"4F2A61B3C9: milter-reject: END-OF-MESSAGE from {CLIENT}: 5.7.1 Spam; from=<>"
    active = QMGR + "4F2A61B3C9: from=<a@b.example>, size=512, nrcpt=5 (queue active)"

    by_filter = read(tmp_path, *lines, refused, smtpd + DISCONNECT)
    by_queue = read(tmp_path, *lines, smtpd + DISCONNECT, active)

    assert by_filter.brief() == [("192.0.2.7", 1, 1, "rejected")]
    assert by_queue.brief() == [("192.0.2.7", 1, 5, "accepted")]


def test_every_line_is_used_ignored_or_unreadable(tmp_path: Path) -> None:
    imported = read(
        tmp_path,
        CONNECT,
        ACCEPTED,
        "warning: hostname x does not resolve to address 192.0.2.7",
        QMGR + "77777: from=<>, size=1, nrcpt=1 (queue active)",
        "other[4]: text",
        "other words postfix/smtpd[71]: connect from x[203.0.113.9]",
        SCREEN + "cache btree:x full cleanup: retained=1 dropped=0 entries [x]",
        DISCONNECT,
        DISCONNECT,
    )

    counts = imported.counts
    assert imported.brief() == [("192.0.2.7", 1, 1, "accepted")]
    assert (counts.used, sum(counts.ignored.values()), counts.unreadable, counts.lines) == (3, 6, 0, 9)
