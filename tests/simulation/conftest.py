"""``--seed N`` repeats one simulated run, ``--seeds N`` runs N of them; the default is `USUAL_SEEDS`."""

from __future__ import annotations

import pytest

USUAL_SEEDS = 220


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="run only this simulation")
    parser.addoption("--seeds", type=int, default=None, help="number of simulations")
    parser.addoption("--first-seed", type=int, default=0, help="the first seed")


def seeds_of(config: pytest.Config) -> list[int]:
    """Return the seeds to run."""
    one, many, first = (config.getoption(name, default=None) for name in ("--seed", "--seeds", "--first-seed"))
    if one is not None:
        return [one]
    return list(range(first or 0, (first or 0) + (many or USUAL_SEEDS)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", seeds_of(metafunc.config))
