"""Logs that begin with their newest line."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.imports import order
from tests.support.logs import Import, file_of, syslog_lines
from topics.errors import OperatorError

LINES = syslog_lines(
    ["connect from a[192.0.2.7]", "4F: client=a[192.0.2.7]", "disconnect from a[192.0.2.7]"],
    program="postfix/smtpd[71]: ",
)
BACKWARDS = b"\n".join(reversed(LINES.splitlines())) + b"\n"


def test_log_that_begins_with_its_newest_line_is_reversed(tmp_path: Path) -> None:
    imported = Import().postfix(file_of(tmp_path, BACKWARDS))

    assert [(event.ts, event.outcome) for event in imported.events] == [(1_714_557_600_000, "accepted")]
    assert (imported.counts.reversed_logs, imported.counts.without_end) == (1, 0)


def test_backward_log_over_a_new_year_is_reversed(tmp_path: Path) -> None:
    lines = LINES.replace(b"May  1 10:00:00", b"Dec 31 23:59:59").replace(b"May  1 10", b"Jan  1 00").splitlines()

    imported = Import(year="2023").postfix(file_of(tmp_path, b"\n".join(reversed(lines))))

    assert [event.outcome for event in imported.events] == ["accepted"]
    assert imported.counts.reversed_logs == 1


def test_log_with_a_late_line_keeps_its_order(tmp_path: Path) -> None:
    lines = LINES.splitlines()
    late = lines[0].replace(b"smtpd[71]: connect", b"master[1]: daemon")

    imported = Import().postfix(file_of(tmp_path, b"\n".join([*lines[:2], late, *lines[2:]])))

    assert [event.outcome for event in imported.events] == ["accepted"]
    assert imported.counts.reversed_logs == 0


def test_backward_log_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MAX_REVERSED_BYTES", 100)

    with pytest.raises(OperatorError, match="tac"):
        Import().postfix(file_of(tmp_path, BACKWARDS))
