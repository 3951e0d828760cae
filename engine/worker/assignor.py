"""Faust's assignor, which distributes the partitions and hands every worker's address to all workers."""

from __future__ import annotations

from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor


class Assignor(PartitionAssignor):
    """Faust's assignor, which also accepts an assignment that names another address of this worker.

    A static member that restarts receives the assignment of the process before it, with that process's address. Faust takes
    that for a mistake and ends the worker; here the worker's present address replaces it.
    """

    def on_assignment(self, assignment: Any) -> None:
        """Accept the leader's assignment."""
        dealt: Any = ClientMetadata.loads(self._decompress(assignment.user_data))
        if dealt.url != str(self._url):
            own = self._compress(dealt.derive(url=str(self._url)).dumps())
            assignment = ConsumerProtocolMemberAssignment(assignment.version, assignment.assignment, own)
        super().on_assignment(assignment)
