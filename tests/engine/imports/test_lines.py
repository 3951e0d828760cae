"""Log files as lines: compression, damage, endless lines."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cramjam
import pytest

from engine.imports.lines import MAX_LINE_BYTES, LogFile
from tests.support.logs import file_of
from topics.errors import OperatorError

TEXT = b"first\nsecond \xff\xfe\x00 line\n\nlast"
LINES = [b"first", b"second \xff\xfe\x00 line", b"", b"last"]
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": partial(gzip.compress, compresslevel=1),
    "bzip2": partial(bz2.compress, compresslevel=1),
    "xz": partial(lzma.compress, preset=0),
    "zstd": lambda text: bytes(cramjam.zstd.compress(text)),
}


@pytest.mark.parametrize("form", PACKED)
def test_compression_is_detected_by_content(tmp_path: Path, form: str) -> None:
    log = LogFile(str(file_of(tmp_path, PACKED[form](TEXT), "mail")))
    assert list(log.lines()) == LINES
    assert not log.damage


@pytest.mark.parametrize("form", PACKED)
def test_standard_input_is_read_in_every_form(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    stream = io.TextIOWrapper(io.BufferedReader(io.BytesIO(PACKED[form](TEXT))))
    monkeypatch.setattr(sys, "stdin", stream)
    log = LogFile("-")
    assert list(log.lines()) == LINES
    assert log.name == "standard input"


def test_gzip_members_are_concatenated(tmp_path: Path) -> None:
    log = LogFile(str(file_of(tmp_path, gzip.compress(b"a\nb") + gzip.compress(b"c\nd\n"))))
    assert list(log.lines()) == [b"a", b"bc", b"d"]


@pytest.mark.parametrize("form", ["gzip", "bzip2", "xz", "zstd"])
def test_truncated_file_gives_the_part_before_and_reports_damage(tmp_path: Path, form: str) -> None:
    lines = [random.Random(i).randbytes(40).hex().encode() for i in range(16_000)]
    packed = PACKED[form](b"\n".join(lines))
    log = LogFile(str(file_of(tmp_path, packed[: len(packed) * 3 // 4])))
    returned = list(log.lines())
    assert 8_000 < len(returned) < 16_000
    assert returned[:-1] == lines[: len(returned) - 1]
    assert "ends in the middle of its compressed data" in log.damage


@pytest.mark.parametrize("form", ["gzip", "bzip2", "xz"])
def test_damaged_file_gives_the_part_before_and_reports_damage(tmp_path: Path, form: str) -> None:
    packed = bytearray(PACKED[form](b"\n".join(random.Random(i).randbytes(40).hex().encode() for i in range(10_000))))
    middle = len(packed) // 2
    packed[middle : middle + 64] = b"\x55" * 64
    log = LogFile(str(file_of(tmp_path, bytes(packed))))
    list(log.lines())
    assert "is damaged" in log.damage


def test_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert list(LogFile(str(file_of(tmp_path, b""))).lines()) == []


def test_endless_line_is_returned_in_pieces(tmp_path: Path) -> None:
    log = LogFile(str(file_of(tmp_path, b"x" * (3 * MAX_LINE_BYTES) + b"\nnext\n")))
    pieces = list(log.lines())
    assert b"".join(pieces[:-1]) == b"x" * (3 * MAX_LINE_BYTES)
    assert pieces[-1] == b"next"
    assert max(map(len, pieces)) < 2 * MAX_LINE_BYTES


def test_last_line_without_line_feed_counts_once(tmp_path: Path) -> None:
    assert list(LogFile(str(file_of(tmp_path, b"a\nb"))).lines()) == [b"a", b"b"]
    assert list(LogFile(str(file_of(tmp_path, b"a\nb\n"))).lines()) == [b"a", b"b"]


def test_progress_adds_up_to_the_size_on_disk(tmp_path: Path) -> None:
    path = file_of(tmp_path, gzip.compress(random.Random(7).randbytes(2_000_000)))
    steps: list[int] = []
    log = LogFile(str(path), steps.append)
    list(log.lines())
    assert sum(steps) == log.size == path.stat().st_size
    assert len(steps) > 3


def test_unreadable_file_is_an_operator_error(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"can't read .*missing: No such file"):
        LogFile(str(tmp_path / "missing"))
    with pytest.raises(OperatorError, match="Is a directory"):
        LogFile(str(tmp_path))
