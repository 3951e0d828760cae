"""What the contenders in Python have in common: the job's arithmetic, their command line, what they tell at the end.

The standard library alone, since each of them has an environment of its own. The job is `contest/oracle.py`'s; here it is
as somebody would write it for speed: a plain list for each sender, which every store can serialise, and the threshold looked
at only above its floor.

A contender says ``{"contest": "ready"}`` on standard output as soon as it would take events, and at the end
``{"contest": "done", …}``: the counts, when it saw its first, its middle and its last event (Unix time), and the processor
time that it had used then.
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
    """Counts over all senders, and times; ``wanted``: events after which it is complete."""

    __slots__ = ("decisions", "events", "keys", "late", "mark", "moments", "squares", "wanted", "windows")

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.events = self.late = self.keys = self.windows = self.squares = self.decisions = 0
        self.mark = max(1, wanted // 2)
        self.moments: list[tuple[float, float]] = []

    def begin(self) -> None:
        """The first event is here; said again it means nothing."""
        if not self.moments:
            self.moments.append((time.time(), time.process_time()))

    def add(self, events: int = 1) -> bool:
        """Count events; whether these were the last ones."""
        self.events += events
        if self.events < self.mark:
            return False
        self.moments.append((time.time(), time.process_time()))
        self.mark = self.wanted
        return self.events >= self.wanted

    def tell(self) -> None:
        """Say that all is done."""
        names = ("events", "late", "keys", "windows", "squares", "decisions")
        counts = {name: getattr(self, name) for name in names}
        (first_s, first_cpu_s), (half_s, _), (last_s, last_cpu_s) = self.moments[0], self.moments[-2], self.moments[-1]
        times = {"first_s": first_s, "half_s": half_s, "last_s": last_s, "cpu_s": last_cpu_s - first_cpu_s}
        print(json.dumps({"contest": "done"} | counts | times), flush=True)


def say_ready() -> None:
    """Say that events would be taken now."""
    print(json.dumps({"contest": "ready"}), flush=True)


def fresh(ts: int) -> State:
    """The state of a sender whose first event is of that time."""
    return [ts - ts % WINDOW_MS, 0, False, 0, 0.0, 0.0]


def take(state: State, ts: int, messages: int, tally: Tally) -> int:
    """Take an event into its sender's state; the count that is decided on, 0 if nothing is."""
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
    """Take the open window into the averages and open the one that begins at ``window_ms``."""
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
    """The record for a decision."""
    return json.dumps({"key": key, "window_ms": ts - ts % WINDOW_MS, "messages": count, "ts": ts}).encode()


def arguments(about: str | None) -> argparse.Namespace:
    """The command line that all contenders have."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--decisions", required=True, help="the topic that decisions go to")
    parser.add_argument("--group", required=True)
    parser.add_argument("--events", type=int, required=True, help="it ends after so many")
    parser.add_argument("--folder", required=True, help="for state on disk")
    parser.add_argument("--checkpoint-ms", type=int, required=True, help="state is saved at least so often")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--store", default="", help="where state is, for those that have a choice")
    return parser.parse_args()
