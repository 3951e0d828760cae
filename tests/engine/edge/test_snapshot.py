"""A snapshot is read back as it was, rejected if it has any defect, and taken while decisions arrive."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from engine.edge.decision_row import DecisionRow, Release
from engine.edge.lookup import EXCESS, UNKNOWN, LookupResult, lookup
from engine.edge.snapshot import (
    CHUNK_ROWS,
    BadSnapshot,
    build_header,
    iter_chunks,
    pack_chunk,
    pack_header,
    read_snapshot,
    restore_table,
)
from engine.edge.state_dir import StateDir
from engine.edge.table import DecisionTable
from topics.decisions import Source
from topics.errors import OperatorError
from topics.networks import network_of

NOW_MS = 1_764_000_000_000
POSITIONS = {"decisions 0": 17, "exemptions 0": 4}


def row(network: str, offset: int = 1) -> DecisionRow:
    return DecisionRow(
        network_of(network), NOW_MS + 60_000, 0.0, 1.0, 501, 20000001, Source("connections", offset % 3, offset)
    )


def table(rows: int) -> DecisionTable:
    made = DecisionTable(20_000)
    made.trust_until(NOW_MS + 60_000)
    for number in range(rows):
        made.put(row(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32", number), NOW_MS)
    made.put(row("2001:db8::/32"), NOW_MS)
    made.put(row("192.0.2.0/24")._replace(shadow=True), NOW_MS)
    made.exempt(network_of("10.0.0.3/32"), None)
    made.exempt_name("client:.example.com", NOW_MS + 60_000)
    return made


def encode(made: DecisionTable) -> bytes:
    rows = len(made.columns.until_ms)
    chunks = b"".join(pack_chunk(raw) for raw in iter_chunks(made.columns, rows))
    return pack_header(build_header(made, POSITIONS, NOW_MS, rows)) + chunks


def answers(made: DecisionTable, ips: list[str]) -> list[LookupResult]:
    return [lookup(ip, made, NOW_MS, consume=False) for ip in ips]


IPS = ["10.0.0.0", "10.0.0.3", "10.0.19.135", "10.0.19.136", "2001:db8:77::1", "192.0.2.1"]


def test_table_is_read_back_as_it_was() -> None:
    made = table(2 * CHUNK_ROWS + 5)
    lookup("10.0.0.0", made, NOW_MS)
    made.release(Release(network_of("10.0.0.1/32"), Source("connections", 1, 5)))

    header, columns = read_snapshot(encode(made), 20_000)
    back = DecisionTable(20_000)
    restore_table(back, header, columns)
    back.trust_until(made.trusted_until_ms)

    assert (header.positions, header.caught_up_ms, len(back)) == (POSITIONS, NOW_MS, len(made))
    assert answers(back, IPS) == answers(made, IPS)
    assert (back.exemptions, back.exempt_names) == (made.exemptions, made.exempt_names)
    assert answers(back, ["10.0.0.0"])[0].why == EXCESS
    back.put(row("10.0.0.1/32", 1), NOW_MS)
    assert answers(back, ["10.0.0.1"])[0].why == UNKNOWN


def test_row_that_changes_its_slot_during_a_snapshot_is_restored_once() -> None:
    made = table(CHUNK_ROWS)
    parts = iter_chunks(made.columns, len(made.columns.until_ms))
    chunks = [next(parts)]
    made.columns.until_ms[5] = -1  # released, then over: its row is free for others
    made.sweep(NOW_MS, CHUNK_ROWS)
    made.put(row("10.99.0.1/32", 7), NOW_MS)
    moved = row("10.0.0.5/32", 9)
    made.put(moved, NOW_MS)
    rows = len(made.columns.until_ms)
    chunks += list(parts)
    chunks += list(iter_chunks(made.columns, rows))[2:]
    content = pack_header(build_header(made, POSITIONS, NOW_MS, CHUNK_ROWS + 1)) + b"".join(map(pack_chunk, chunks))

    header, columns = read_snapshot(content, 20_000)
    back = DecisionTable(20_000)
    restore_table(back, header, columns)
    back.put(moved, NOW_MS)  # as reading on from the positions does
    back.put(row("10.99.0.1/32", 7), NOW_MS)
    back.trust_until(made.trusted_until_ms)

    ips = ["10.0.0.5", "10.99.0.1", "10.0.0.6"]
    assert answers(back, ips) == answers(made, ips)


def test_damaged_snapshot_is_rejected() -> None:
    content = encode(table(40))

    for at in range(0, len(content), 7):
        damaged = content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]
        with pytest.raises(BadSnapshot):
            read_snapshot(damaged, 20_000)
    for length in range(0, len(content), 11):
        with pytest.raises(BadSnapshot):
            read_snapshot(content[:length], 20_000)
    with pytest.raises(BadSnapshot):
        read_snapshot(content + b"\0", 20_000)


def test_snapshot_larger_than_the_table_is_rejected() -> None:
    with pytest.raises(BadSnapshot, match=r"edge\.max_decisions"):
        read_snapshot(encode(table(40)), 40)


def test_snapshot_of_a_later_version_is_rejected() -> None:
    content = encode(table(1))
    header, _ = read_snapshot(content, 10)

    with pytest.raises(BadSnapshot, match="version 3"):
        read_snapshot(pack_header(dataclasses.replace(header, version=3)), 10)


def test_state_dir_loads_the_saved_snapshot_unless_too_old(tmp_path: Path) -> None:
    state_dir, made = StateDir(tmp_path), table(10)
    assert state_dir.load(DecisionTable(100), 0) is None

    asyncio.run(state_dir.save(made, POSITIONS, NOW_MS))

    back = DecisionTable(100)
    header = state_dir.load(back, NOW_MS)
    assert header is not None
    assert (header.positions, len(back)) == (POSITIONS, len(made))
    fresh = DecisionTable(100)
    assert state_dir.load(fresh, NOW_MS + 1) is None
    assert len(fresh) == 0

    (tmp_path / "decisions.snapshot").write_bytes(b"junk")
    assert state_dir.load(fresh, 0) is None


def test_state_dir_of_another_edge_is_refused(tmp_path: Path) -> None:
    first = StateDir(tmp_path)

    with pytest.raises(OperatorError, match=r"edge\.state_dir"):
        StateDir(tmp_path)

    assert first.path == tmp_path
