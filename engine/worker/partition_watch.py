"""Notice that the connections topic has got another number of partitions while the worker runs.

The worker reports it for `REPORT_S`, then ends with the line that its next start would end with. Producers hash keys over the
new number, so senders would continue on other partitions, as newcomers there, and the state topic has no partitions for the
added ones. Rejected: to wait for Faust's consumer, which refreshes its metadata every five minutes and then waits for a state
that doesn't exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from engine.kafka.topic_admin import partition_difference
from topics.contracts import Topic

CHECK_S = 5.0
REPORT_S = 10.0  # on the page and in /health, for monitoring to see the reason


class Repartitioned(Exception):
    """The connections topic has another number of partitions than the state."""


class PartitionWatch:
    """Compares the number of partitions with the contract.

    ``count`` returns the present number, 0 while the cluster is unreachable. ``report`` publishes the problem, ``on_failure``
    ends the worker.
    """

    def __init__(
        self,
        contract: Topic,
        count: Callable[[str], Awaitable[int]],
        report: Callable[[str], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._contract, self._count, self._report, self._on_failure = contract, count, report, on_failure

    async def run(self) -> None:
        """Check every `CHECK_S`, until the number differs or cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            partitions = await self._count(self._contract.name)
            if partitions and partitions != self._contract.partitions:
                problem = partition_difference(self._contract, partitions)
                self._report(problem)
                await asyncio.sleep(REPORT_S)
                self._on_failure(Repartitioned(problem))
                return
