"""After any fault every event is counted once, and no decision is lost or goes backwards: the faults in their short form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.broker import EmbeddedBroker
from tests.system.faults.all import FAULTS
from tests.system.faults.catalogue import Fault, inflict
from tests.system.faults.cluster import BROKER_SETTINGS

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def victim(kafka_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """Yield a broker that may be killed."""
    with EmbeddedBroker(tmp_path_factory.mktemp("victim"), settings=BROKER_SETTINGS) as broker:
        yield broker


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.short], ids=lambda fault: fault.name)
def test_no_event_or_decision_is_lost_doubled_or_goes_back(
    fault: Fault, victim: EmbeddedBroker, tmp_path: Path
) -> None:
    verdict = inflict(fault, fault.short, victim, tmp_path).verdict
    assert (verdict.counted, verdict.lost, verdict.doubled) == (verdict.offered, 0, 0)
    assert verdict.regressions == 0
    assert verdict.complaints == []
    assert verdict.decisions > 50, "too few decisions to prove anything"


def test_every_fault_has_a_sentence_and_a_unique_name() -> None:
    assert all(fault.whole and fault.sentence.endswith(".") for fault in FAULTS)
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
