"""All faults, in the order of injection."""

from __future__ import annotations

from tests.system.faults.brokers import BROKERS
from tests.system.faults.changelogs import CHANGELOGS
from tests.system.faults.crashes import CRASHES
from tests.system.faults.rebalances import REBALANCES

FAULTS = CRASHES.faults + REBALANCES.faults + BROKERS.faults + CHANGELOGS.faults
