"""The real Postfix logs: our events compared with a plain reading, with Postfix's own anvil, and with the labelled trace.

anvil counts a client's connections in windows: the first connection opens one, and each one later than 60 s after that opens
the next. Every ten minutes, and when it ends, anvil logs the largest count since its last report with client and time. It
counts in whole seconds and forgets a client after a minute without connections. So a window of exactly 60 s may be one window
or two, and events of the second of a report may be in it or in the next.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from engine.imports.clock import LogClock, zone_of
from engine.imports.counts import ImportCounts
from engine.imports.lines import LogFile
from tests.support.logs import Import, shared_folder
from topics.events import ConnectionEvent

ZONE = "America/Los_Angeles"
NAMES = ("postfix-mail.log.gz", "postfix-mail2.log.gz", "postfix-mail3.log.gz")
RATE = re.compile(rb"statistics: max connection rate (\d+)/60s for \(smtp:(\S+)\) at (.{15})$")


@pytest.fixture(scope="module")
def logs() -> list[Path]:
    return [shared_folder("logs") / name for name in NAMES]


@pytest.fixture(scope="module")
def imported(logs: list[Path]) -> Import:
    return Import("2015", ZONE).postfix(*logs)


def plain_reading(path: Path, clock: LogClock) -> Iterator[list[object]]:
    """Yield the connections of a log by process ids alone: ts, ip, accepted messages, outcome."""
    live: dict[bytes, list[object]] = {}
    for line in LogFile(str(path)).lines():
        match = re.search(rb"postfix/smtpd\[(\d+)\]: (.*)", line)
        if not match:
            continue
        pid, body = match.groups()
        if body.startswith(b"connect from"):
            address = body[body.index(b"[") + 1 : -1].decode()
            live[pid] = [clock.read(line), address, 0, ""]
            yield live[pid]
        elif b": client=" in body:
            live[pid][2] = int(str(live[pid][2])) + 1
            live[pid][3] = "accepted"
        elif b"NOQUEUE: reject:" in body and live[pid][3] in ("", "deferred"):
            code = re.findall(rb"\]: ([45])\d\d ", body)[0]
            live[pid][3] = "deferred" if code == b"4" else "rejected"


def test_events_equal_a_plain_reading(logs: list[Path], imported: Import) -> None:
    plain: list[list[object]] = []
    for path in logs:
        log = LogFile(str(path))
        plain += plain_reading(path, LogClock(log, 2015, zone_of(ZONE), ImportCounts()))
    ours = [[event.ts, event.ip, event.messages, event.outcome] for event in imported.events]
    assert len(plain) == 4064
    assert ours == [[ts, ip, accepted or 1, outcome or "rejected"] for ts, ip, accepted, outcome in plain]
    assert imported.counts.lines == 22_929
    assert imported.counts.unreadable == imported.counts.without_end == imported.counts.without_start == 0
    assert imported.counts.without_address == 0


def rates(events: list[ConnectionEvent], window_s: int) -> dict[str, list[tuple[int, int]]]:
    """Return, by client, (second, count in its window) of each connection, as anvil counts with that length of window."""
    counts: dict[str, list[tuple[int, int]]] = defaultdict(list)
    started: dict[str, int] = {}
    for event in events:
        second, seen = event.ts // 1000, counts[event.ip]
        if event.ip not in started or started[event.ip] + window_s < second:
            started[event.ip] = second
            seen.append((second, 1))
        else:
            seen.append((second, seen[-1][1] + 1))
    return counts


def reports(path: Path) -> Iterator[tuple[int, int, str, int]]:
    """Yield anvil's reports of counts within the log: (second of the report, largest count, client, second of the count)."""
    log = LogFile(str(path))
    clock = LogClock(log, 2015, zone_of(ZONE), ImportCounts())
    first = None
    for line in log.lines():
        logged = clock.read(line) // 1000
        first = first or logged
        match = RATE.search(line)
        if match:
            reached = clock.read(match[3] + b" ") // 1000
            if reached >= first:
                yield logged, int(match[1]), match[2].decode(), reached


def test_anvil_figures_equal_counts_of_events(logs: list[Path], imported: Import) -> None:
    counts = {(ip, second, count) for ip, seen in rates(imported.events, 60).items() for second, count in seen}
    figures = [report for path in logs for report in reports(path)]
    agreeing = [(ip, reached, largest) in counts for _, largest, ip, reached in figures]
    assert (len(figures), sum(agreeing)) == (448, 448)
    assert max(largest for _, largest, _, _ in figures) == 223


def test_no_client_exceeds_the_one_that_anvil_names(logs: list[Path], imported: Import) -> None:
    most = [(second, count) for seen in rates(imported.events, 60).values() for second, count in seen]
    least = [(second, count) for seen in rates(imported.events, 59).values() for second, count in seen]
    for path in logs:
        before = None
        for logged, largest, _, _ in reports(path):
            if before is not None:
                assert max(count for second, count in most if before <= second <= logged) >= largest
                assert max((count for second, count in least if before < second < logged), default=0) <= largest
            before = logged


def test_labelled_trace_has_the_same_connections_and_messages(logs: list[Path]) -> None:
    # The trace has timestamps as if they were UTC, random milliseconds and a pseudonym for each address. It assigns messages to
    # connections by the client's address, so concurrent connections of one client exchange messages.
    trace = shared_folder("evaluation") / "traces" / "dev-kdent.events.ndjson.gz"
    theirs = [orjson.loads(line) for line in LogFile(str(trace)).lines()]
    ours = Import("2015", "UTC").postfix(*logs).events
    assert Counter((e.ts // 1000, e.ip.rpartition(".")[2]) for e in ours) == Counter(
        (e["ts"] // 1000, e["ip"].rpartition(".")[2]) for e in theirs
    )
    accepted = sum(e.messages for e in ours if e.outcome == "accepted")
    assert accepted == sum(e.get("messages", 1) for e in theirs if e["outcome"] == "accepted") == 1708
    assert per_client([(e.ip, e.messages, e.outcome == "accepted") for e in ours]) == per_client(
        [(e["ip"], e.get("messages", 1), e["outcome"] == "accepted") for e in theirs]
    )
    a = Counter((e.ts // 1000, e.messages, e.outcome == "accepted") for e in ours)
    b = Counter((e["ts"] // 1000, e.get("messages", 1), e["outcome"] == "accepted") for e in theirs)
    assert (a & b).total() / len(ours) > 0.93


def per_client(events: list[tuple[str, int, bool]]) -> Counter[tuple[int, int]]:
    """Return the number of clients by (connections, accepted messages)."""
    connections: Counter[str] = Counter()
    accepted_messages: Counter[str] = Counter()
    for ip, messages, is_accepted in events:
        connections[ip] += 1
        accepted_messages[ip] += messages * is_accepted
    return Counter((connections[ip], accepted_messages[ip]) for ip in connections)
