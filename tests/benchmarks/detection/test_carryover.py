"""Carry-over: cut traces and relays, small."""

from __future__ import annotations

import gzip
from pathlib import Path

from benchmarks.detection.carryover import begun_at, relays_deferred
from benchmarks.detection.traces import SUFFIX, Trace

DAY_MS = 86_400_000


def test_trace_that_begins_later_keeps_the_owners_of_its_events(tmp_path: Path) -> None:
    trace = Trace("x", tmp_path / f"x{SUFFIX}", tmp_path / "x.labels.ndjson")
    days, owners = range(20), range(20)
    trace.events.write_bytes(gzip.compress(b"".join(b'{"ts":%d}\n' % (day * DAY_MS) for day in days)))
    trace.labels.write_bytes(b"{}\n")
    (tmp_path / "x.lines.txt.gz").write_bytes(gzip.compress(b"".join(b"%d\n" % owner for owner in owners)))
    folder = tmp_path / "cuts"
    folder.mkdir()

    cold, whole = begun_at(trace, 5, folder)

    assert gzip.decompress(cold.events.read_bytes()).split() == [b'{"ts":%d}' % (day * DAY_MS) for day in (10, 11)]
    assert gzip.decompress((folder / f"{cold.name}.lines.txt.gz").read_bytes()).split() == [b"10", b"11"]
    assert len(gzip.decompress(whole.events.read_bytes()).split()) == 10
    assert whole.labels.read_bytes() == b"{}\n"


def test_deferred_mail_of_relays_is_a_share_of_all() -> None:
    row = relays_deferred(2, 2, 12)

    assert 0 <= row["held"] <= row["worst"] < 1
    assert row["messages"] > 100_000
