"""`tidegate import` with files."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import orjson
import pytest

from engine.cli import main
from tests.support.logs import file_of, shared_folder, syslog_lines

TAG = "postfix/smtpd[71]: "
LINES = syslog_lines(
    ["connect from a[192.0.2.7]", "4F: client=a[192.0.2.7]", "disconnect from a[192.0.2.7]"], program=TAG
)
EVENT = b'{"ts":1714557600000,"ip":"192.0.2.7","mta":"mx"}\n'
GIVEN = ("--year", "2024", "--time-zone", "UTC")


def test_import_writes_ndjson_to_stdout_and_a_summary_to_stderr(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["import", "postfix", str(file_of(tmp_path, LINES)), *GIVEN]) == 0
    out, err = capfdbinary.readouterr()
    assert out == EVENT
    assert b"3 lines, 1 events (1 accepted, 0 deferred, 0 rejected)" in err
    assert b"from 2024-05-01 10:00:00 to 2024-05-01 10:00:00 UTC" in err


@pytest.mark.parametrize("name", ["events.ndjson", "events.ndjson.gz"])
def test_out_ending_in_gz_is_compressed(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    assert main(["import", "postfix", str(file_of(tmp_path, LINES)), *GIVEN, "--out", str(out)]) == 0
    content = out.read_bytes()
    assert (gzip.decompress(content) if name.endswith("gz") else content) == EVENT


def test_standard_input_is_an_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(gzip.compress(LINES)))))
    out = tmp_path / "events.ndjson"
    assert main(["import", "postfix", "-", *GIVEN, "--out", str(out)]) == 0
    assert out.read_bytes() == EVENT


def test_exim_and_csv_give_the_same_event(tmp_path: Path) -> None:
    exim = file_of(
        tmp_path, b"2024-05-01 10:00:00 1s2abc-0001AB-1C <= a@b.example H=x [192.0.2.7] P=smtp S=1\n", "mainlog"
    )
    table = file_of(tmp_path, b"when;client\n1714557600;192.0.2.7\n", "events.csv")
    out = tmp_path / "events.ndjson"
    assert main(["import", "exim", str(exim), "--time-zone", "UTC", "--mta", "mx", "--out", str(out)]) == 0
    assert out.read_bytes() == EVENT
    arguments = ["import", "csv", str(table), "--ts-column", "when", "--ip-column", "client", "--out", str(out)]
    assert main(arguments) == 0
    assert out.read_bytes() == EVENT.replace(b',"mta":"mx"', b"")


def test_truncated_file_gives_the_part_before_and_exit_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(tmp_path, gzip.compress(LINES + LINES)[:-9], "mail.log.gz")
    out = tmp_path / "events.ndjson"
    assert main(["import", "postfix", str(path), *GIVEN, "--out", str(out)]) == 1
    assert out.read_bytes().startswith(EVENT)
    assert "ends in the middle of its compressed data" in capsys.readouterr().err


def test_file_that_is_no_log_reports_its_lines_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(tmp_path, b"# notes\nnothing here\n")
    assert main(["import", "postfix", str(path), *GIVEN, "--out", str(tmp_path / "out")]) == 1
    report = capsys.readouterr().err
    assert "no event found: is it this kind of log?" in report
    assert "2 lines could not be read, such as:" in report
    assert "no syslog line: # notes" in report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["postfix", "{log}"], "no year and no time zone: give --year"),
        (["postfix", "{log}", "--year", "2024"], "no time zone: give --time-zone"),
        (["postfix", "{log}", "--year", "24"], "no year '24'"),
        (["postfix", "{log}", "--time-zone", "Nowhere"], "no time zone 'Nowhere'"),
        (["postfix", "{log}.missing", *GIVEN], "can't read"),
        (["postfix", "{log}", *GIVEN, "--out", "{log}"], "is an input and would be overwritten"),
        (["postfix", "-", "-", *GIVEN], "standard input (-) is given twice"),
        (
            ["postfix", "{log}", *GIVEN, "--out", "x", "--bootstrap", "127.0.0.1:1"],
            "--out and --bootstrap exclude each other",
        ),
        (["csv", "{log}"], "has no column 'ts'"),
        (["csv", "{log}", "--delimiter", "ab"], "give one character"),
        (["exim", "{log}", "--colour"], "No such option"),
        (["postfix"], "Missing argument"),
    ],
)
def test_misuse_is_a_one_line_error_and_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    log = file_of(tmp_path, LINES)
    assert main(["import", *(argument.format(log=log) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[-1]
    assert "Traceback" not in captured.err
    assert log.read_bytes() == LINES


def test_same_log_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, packed = file_of(tmp_path, LINES), file_of(tmp_path, gzip.compress(LINES), "mail.log.1.gz")

    assert main(["import", "postfix", str(plain), str(packed), *GIVEN]) == 2
    assert "begin with the same lines: give each log once" in capsys.readouterr().err


def test_explain_lines_shows_sums_that_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = file_of(tmp_path, LINES + b"May  1 10:00:03 mx other[5]: text\nnoise\n")

    assert main(["import", "postfix", str(log), *GIVEN, "--explain-lines", "--out", str(tmp_path / "out")]) == 0
    report = capsys.readouterr().err
    assert "5 lines:\n  3 of events\n  1 unreadable\n  1 ignored: of other programs" in report


def test_day_that_the_year_lacks_is_reported_with_exit_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = file_of(tmp_path, LINES.replace(b"May  1", b"Feb 29"))

    assert (
        main(["import", "postfix", str(log), "--year", "2023", "--time-zone", "UTC", "--out", str(tmp_path / "o")]) == 1
    )
    assert "29 February does not exist in 2023, so --year is wrong" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["postfix"], ["exim"], ["csv"]])
def test_help_has_an_example(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert main(["import", *command, "--help"]) == 0
    assert "Example:" in capsys.readouterr().out


def test_real_logs_are_imported_completely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = sorted(str(path) for path in shared_folder("logs").glob("*.gz"))
    out = tmp_path / "events.ndjson"
    arguments = ["import", "postfix", *logs, "--year", "2015", "--time-zone", "America/Los_Angeles", "--out", str(out)]
    assert main(arguments) == 0
    events = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    assert len(events) == 4064
    assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)
    assert "22,929 lines, 4,064 events" in capsys.readouterr().err
