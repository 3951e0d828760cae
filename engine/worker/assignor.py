"""How a worker is a member of its group: Faust's assignor, which deals out the partitions and tells everybody who has which."""

from __future__ import annotations

from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor


class Assignor(PartitionAssignor):
    """Faust's, but for one thing. A static member that restarts is handed the assignment of the process before it, with that
    one's address, which Faust takes for a mistake and ends the worker: here it counts what this process says of itself."""

    def on_assignment(self, assignment: Any) -> None:
        """Take what the leader has dealt out."""
        dealt: Any = ClientMetadata.loads(self._decompress(assignment.user_data))
        if dealt.url != str(self._url):
            own = self._compress(dealt.derive(url=str(self._url)).dumps())
            assignment = ConsumerProtocolMemberAssignment(assignment.version, assignment.assignment, own)
        super().on_assignment(assignment)
