"""The shared part of the contenders in Python: the job's arithmetic, their command line, their report at the end.

It uses the standard library alone, because each contender has an environment of its own. The job is that of
`contest/oracle.py`, written for speed: a plain list for each sender, which every store can serialise, and the threshold is
computed only above its floor.

A contender prints ``{"contest": "ready"}`` as soon as it accepts events, and at the end ``{"contest": "done", …}``: the
counts, the times of its first, middle and last event (Unix time), and the CPU time between the first and the last.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any

WINDOW_MS = 60_000
SIGMAS, FLOOR, LEAST_WINDOWS = 4.0, 10, 3
WINDOW, COUNT, DECIDED, WINDOWS, MEAN, SQUARE = range(6)
State = list[Any]


class Tally:
    """Counts over all senders, and times; complete after ``wanted`` events."""

    __slots__ = ("decisions", "events", "keys", "late", "mark", "squares", "times", "wanted", "windows")

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.events = self.late = self.keys = self.windows = self.squares = self.decisions = 0
        self.mark = max(1, wanted // 2)
        self.times: list[tuple[float, float]] = []

    def begin(self) -> None:
        """Record the time of the first event; later calls change nothing."""
        if not self.times:
            self.times.append((time.time(), time.process_time()))

    def add(self, events: int = 1) -> bool:
        """Count events; return True if these were the last ones."""
        self.events += events
        if self.events < self.mark:
            return False
        self.times.append((time.time(), time.process_time()))
        self.mark = self.wanted
        return self.events >= self.wanted

    def report(self) -> None:
        """Print the report at the end."""
        names = ("events", "late", "keys", "windows", "squares", "decisions")
        counts = {name: getattr(self, name) for name in names}
        (first_s, first_cpu_s), (half_s, _), (last_s, last_cpu_s) = self.times[0], self.times[-2], self.times[-1]
        times = {"first_s": first_s, "half_s": half_s, "last_s": last_s, "cpu_s": last_cpu_s - first_cpu_s}
        print(json.dumps({"contest": "done"} | counts | times), flush=True)


def report_ready() -> None:
    """Print that events are accepted now."""
    print(json.dumps({"contest": "ready"}), flush=True)


def fresh(ts: int) -> State:
    """Return the state of a sender whose first event is of that time."""
    return [ts - ts % WINDOW_MS, 0, False, 0, 0.0, 0.0]


def take(state: State, ts: int, messages: int, tally: Tally) -> int:
    """Apply an event to its sender's state; return the count of a decision, 0 without one."""
    window_ms = ts - ts % WINDOW_MS
    if window_ms != state[WINDOW]:
        if window_ms < state[WINDOW]:
            tally.late += 1
            return 0
        close(state, window_ms, tally)
    count: int = state[COUNT] + messages
    state[COUNT] = count
    if count > FLOOR and state[WINDOWS] >= LEAST_WINDOWS and not state[DECIDED]:
        spread = math.sqrt(max(0.0, state[SQUARE] - state[MEAN] * state[MEAN]))
        if count > state[MEAN] + SIGMAS * spread + FLOOR:
            state[DECIDED] = True
            tally.decisions += 1
            return count
    return 0


def close(state: State, window_ms: int, tally: Tally) -> None:
    """Add the open window to the averages and open the one that begins at ``window_ms``."""
    count = state[COUNT]
    tally.windows += 1
    tally.squares += count * count
    x = float(count)
    if state[WINDOWS]:
        state[MEAN] = 0.125 * x + 0.875 * state[MEAN]
        state[SQUARE] = 0.125 * (x * x) + 0.875 * state[SQUARE]
    else:
        state[MEAN], state[SQUARE] = x, x * x
    state[WINDOWS] += 1
    state[WINDOW], state[COUNT], state[DECIDED] = window_ms, 0, False


def decision(key: str, count: int, ts: int) -> bytes:
    """Return the record of a decision."""
    return json.dumps({"key": key, "window_ms": ts - ts % WINDOW_MS, "messages": count, "ts": ts}).encode()


def arguments(about: str | None) -> argparse.Namespace:
    """Parse the command line that all contenders share."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--decisions", required=True, help="topic of its decisions")
    parser.add_argument("--group", required=True)
    parser.add_argument("--events", type=int, required=True, help="it ends after so many events")
    parser.add_argument("--folder", required=True, help="for state on disk")
    parser.add_argument("--checkpoint-ms", type=int, required=True, help="interval of saving state")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--store", default="", help="place of the state, for contenders with a choice")
    return parser.parse_args()
