"""The snapshot: read back as it was, refused in any doubt, taken while decisions come in."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from engine.edge.decision_row import Release, Row
from engine.edge.lookup import EXCESS, UNKNOWN, lookup
from engine.edge.snapshot import (
    CHUNK_ROWS,
    BadSnapshot,
    header_of,
    pack_chunk,
    pack_header,
    read_snapshot,
    restore,
    slices,
)
from engine.edge.state_dir import StateFolder
from engine.edge.table import Table
from topics.decisions import Source
from topics.errors import OperatorError
from topics.networks import network_of

NOW_MS = 1_764_000_000_000
POSITIONS = {"decisions 0": 17, "exemptions 0": 4}


def row(network: str, offset: int = 1) -> Row:
    return Row(network_of(network), NOW_MS + 60_000, 0.0, 1.0, 501, 20000001, Source("connections", offset % 3, offset))


def table(rows: int) -> Table:
    made = Table(20_000)
    made.trusted_until_ms = NOW_MS + 60_000
    for number in range(rows):
        made.put(row(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32", number), NOW_MS)
    made.put(row("2001:db8::/32"), NOW_MS)
    made.put(row("192.0.2.0/24")._replace(shadow=True), NOW_MS)
    made.exempt(network_of("10.0.0.3/32"), None)
    made.exempt_name("client:.example.com", NOW_MS + 60_000)
    return made


def octets_of(made: Table) -> bytes:
    rows = len(made.columns.until_ms)
    chunks = b"".join(pack_chunk(raw) for raw in slices(made.columns, rows))
    return pack_header(header_of(made, POSITIONS, NOW_MS, rows)) + chunks


def answers(made: Table, ips: list[str]) -> list[object]:
    return [lookup(ip, made, NOW_MS, keep=True) for ip in ips]


IPS = ["10.0.0.0", "10.0.0.3", "10.0.19.135", "10.0.19.136", "2001:db8:77::1", "192.0.2.1"]


def test_a_table_comes_back_as_it_was() -> None:
    made = table(2 * CHUNK_ROWS + 5)
    lookup("10.0.0.0", made, NOW_MS)
    made.release(Release(network_of("10.0.0.1/32"), Source("connections", 1, 5)))
    header, columns = read_snapshot(octets_of(made), 20_000)
    back = Table(20_000)
    restore(back, header, columns)
    back.trusted_until_ms = made.trusted_until_ms
    assert (header.positions, header.heard_ms, len(back)) == (POSITIONS, NOW_MS, len(made))
    assert answers(back, IPS) == answers(made, IPS)
    assert (back.exemptions, back.names) == (made.exemptions, made.names)
    assert answers(back, ["10.0.0.0"])[0].why == EXCESS  # type: ignore[attr-defined]
    back.put(row("10.0.0.1/32", 1), NOW_MS)
    assert answers(back, ["10.0.0.1"])[0].why == UNKNOWN  # type: ignore[attr-defined]


def test_rows_that_change_places_while_the_snapshot_is_taken_are_there_once() -> None:
    made = table(CHUNK_ROWS)
    parts = slices(made.columns, len(made.columns.until_ms))
    taken = [next(parts)]
    made.columns.until_ms[5] = -1  # released, then over: its row is free for others
    made.sweep(NOW_MS, CHUNK_ROWS)
    made.put(row("10.99.0.1/32", 7), NOW_MS)
    moved = row("10.0.0.5/32", 9)
    made.put(moved, NOW_MS)
    rows = len(made.columns.until_ms)
    taken += list(parts)
    taken += list(slices(made.columns, rows))[2:]
    octets = pack_header(header_of(made, POSITIONS, NOW_MS, CHUNK_ROWS + 1)) + b"".join(map(pack_chunk, taken))
    header, columns = read_snapshot(octets, 20_000)
    back = Table(20_000)
    restore(back, header, columns)
    back.put(moved, NOW_MS)  # as reading on from the positions does
    back.put(row("10.99.0.1/32", 7), NOW_MS)
    back.trusted_until_ms = made.trusted_until_ms
    ips = ["10.0.0.5", "10.99.0.1", "10.0.0.6"]
    assert answers(back, ips) == answers(made, ips)


def test_any_damage_is_seen() -> None:
    octets = octets_of(table(40))
    for at in range(0, len(octets), 7):
        damaged = octets[:at] + bytes([octets[at] ^ 0x10]) + octets[at + 1 :]
        with pytest.raises(BadSnapshot):
            read_snapshot(damaged, 20_000)
    for length in range(0, len(octets), 11):
        with pytest.raises(BadSnapshot):
            read_snapshot(octets[:length], 20_000)
    with pytest.raises(BadSnapshot):
        read_snapshot(octets + b"\0", 20_000)


def test_more_rows_than_the_table_takes_are_refused() -> None:
    with pytest.raises(BadSnapshot, match=r"edge\.max_decisions"):
        read_snapshot(octets_of(table(40)), 40)


def test_a_later_version_is_refused() -> None:
    octets = octets_of(table(1))
    header, _ = read_snapshot(octets, 10)
    with pytest.raises(BadSnapshot, match="version 3"):
        read_snapshot(pack_header(dataclasses.replace(header, version=3)), 10)


def test_a_folder_gives_back_what_was_saved_and_nothing_too_old(tmp_path: Path) -> None:
    folder, made = StateFolder(tmp_path), table(10)
    assert folder.load(Table(100), 0) is None
    asyncio.run(folder.save(made, POSITIONS, NOW_MS))
    back = Table(100)
    header = folder.load(back, NOW_MS)
    assert header is not None
    assert (header.positions, len(back)) == (POSITIONS, len(made))
    fresh = Table(100)
    assert folder.load(fresh, NOW_MS + 1) is None
    assert len(fresh) == 0
    (tmp_path / "decisions.snapshot").write_bytes(b"junk")
    assert folder.load(fresh, 0) is None


def test_a_folder_has_one_edge(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with pytest.raises(OperatorError, match=r"edge\.state_dir"):
        StateFolder(tmp_path)
    assert folder.path == tmp_path
