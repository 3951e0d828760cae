"""``--seed N`` repeats one simulated run, ``--seeds N`` runs so many; without them it is the few hundred of every test run."""

from __future__ import annotations

import pytest

USUAL_SEEDS = 220


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="run this simulation alone")
    parser.addoption("--seeds", type=int, default=None, help="run so many simulations")
    parser.addoption("--first-seed", type=int, default=0, help="from this seed on")


def seeds_of(config: pytest.Config) -> list[int]:
    """The seeds to be run."""
    one, many, first = (config.getoption(name, default=None) for name in ("--seed", "--seeds", "--first-seed"))
    if one is not None:
        return [one]
    return list(range(first or 0, (first or 0) + (many or USUAL_SEEDS)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", seeds_of(metafunc.config))
