"""After any faults of workers and network, state, counts and decisions are the oracle's: one test per seed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.simulation.world import run_seed

SEEN: Counter[str] = Counter()
RUN: set[int] = set()
MIN_PER_SEED = {
    "untracked": 3, "evicted": 0.5, "prefixes": 0.02,
    "events": 50, "decisions": 10, "decisions repeated": 2, "older decisions ignored": 2, "restores": 3, "commits": 3,
    "offset commits": 3, "crash": 1, "rebalance": 0.2, "leave": 0.2, "join_late": 0.2, "zombie": 0.3, "storm": 0.2,
    "zombies that came back": 0.05, "deposed while revoking": 0.01, "fenced": 0.2, "ended by Fenced": 0.1, "compact": 0.3,
    "transactions aborted by a new writer": 0.05, "aborts": 0.2, "agents restarted": 0.05, "fetches of earlier offsets": 5,
    "failed: batch": 0.1, "failed: end": 0.1, "failed: commit": 0.3, "failed: decision": 0.1, "failed: send": 0.1,
    "ended by MessageSizeTooLargeError": 0.05, "orders": 0.5, "withdrawals": 1, "warm openings": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Disable logging: the log lines of the faults would take half of the time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_every_event_counts_once_and_no_decision_goes_back(seed: int) -> None:
    try:
        SEEN.update(run_seed(seed))
    except BaseException as error:
        error.add_note(f"repeat with: python -m pytest tests/simulation --seed {seed}")
        raise
    RUN.add(seed)


def test_seeds_reach_every_kind_of_fault() -> None:
    if len(RUN) < 100:
        pytest.skip(f"{len(RUN)} seeds are too few")
    assert {name: SEEN[name] for name, minimum in MIN_PER_SEED.items() if SEEN[name] < minimum * len(RUN)} == {}
