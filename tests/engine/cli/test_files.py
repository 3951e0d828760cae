"""Input files that are compressed, cut or damaged, and output files of interrupted commands."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import cramjam
import pytest

from engine.cli import main
from engine.cli.files import output_file
from topics.events import ConnectionEvent, encode_event

EVENTS = b"".join(
    encode_event(
        ConnectionEvent(1_714_557_600_000 + i * 977, f"192.0.2.{i * i % 251}", f"mx{i % 7}", 1, 1 + i % 9, "accepted")
    )
    + b"\n"
    for i in range(20_000)
)
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda text: bytes(cramjam.zstd.compress(text)),
}


def replay(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(["replay", str(path), "--decisions", str(path.with_name("decisions.ndjson"))])
    return status, capsys.readouterr().err


@pytest.mark.parametrize("form", PACKED)
def test_compressed_events_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    path = tmp_path / "events"
    path.write_bytes(PACKED[form](EVENTS))

    status, report = replay(path, capsys)

    assert status == 0
    assert "20,000 events" in report


@pytest.mark.parametrize("form", PACKED)
def test_truncated_events_give_the_part_before_and_exit_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    path = tmp_path / "events"
    packed = PACKED[form](EVENTS)
    path.write_bytes(packed[: len(packed) // 2])

    status, report = replay(path, capsys)

    assert status == 1
    assert f"{path} ends in the middle of its compressed data; the part before was read" in report
    assert "are not events" not in report


@pytest.mark.parametrize("damage", ["middle", "checksum", "text behind the end"])
def test_damaged_events_give_one_sentence_and_exit_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    path = tmp_path / "events.gz"
    packed = bytearray(gzip.compress(EVENTS))
    if damage == "middle":
        packed[len(packed) // 2 : len(packed) // 2 + 64] = b"\x55" * 64
    elif damage == "checksum":
        packed[-6] ^= 0xFF
    else:
        packed += b"text"
    path.write_bytes(packed)

    status, report = replay(path, capsys)

    assert status == 1
    assert report.count(f"{path} is damaged") == 1
    assert "Traceback" not in report


def write_and_interrupt(path: Path) -> None:
    with output_file(str(path)) as out:
        out.write(b"new")
        raise KeyboardInterrupt


def test_interrupted_output_leaves_the_old_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.ndjson.gz"
    path.write_bytes(b"old")

    with pytest.raises(KeyboardInterrupt):
        write_and_interrupt(path)

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    assert "was not written" in capsys.readouterr().err


def test_output_to_a_device_is_written_directly() -> None:
    with output_file("/dev/null") as out:
        out.write(b"text")

    assert Path("/dev/null").is_char_device()
