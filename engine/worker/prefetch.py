"""Read events ahead: a thread unpacks and scans each block as soon as it is fetched.

This needs no state, is more than half of a block's cost, and releases the GIL: it runs next to the consumer's thread, which
fetches, and the agent, which detects. The agent receives a future of an `EventBlock` per block, in order, and releases the
block's workspace when it is done. The stream's buffer limits the number of blocks in work.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from engine.kafka.blocks import Block
from engine.kafka.decompress import Unpacked, Workspace
from topics.columns.batches import read_events
from topics.columns.scan import EventColumns


@dataclass(frozen=True, slots=True, eq=False)
class EventBlock:
    """A block's events as columns, which live in ``workspace`` until it is released."""

    block: Block
    unpacked: Unpacked
    columns: EventColumns  # the first `count` are valid
    count: int
    workspace: Workspace


def read_block(block: Block, workspace: Workspace) -> EventBlock:
    """Unpack a block and read its events."""
    unpacked, columns = workspace.unpack(block)
    count = read_events(unpacked.raw, unpacked.arena, unpacked.batches, block.first_offset, columns)
    return EventBlock(block, unpacked, columns, count, workspace)


class Prefetcher:
    """The reading thread, and workspaces to reuse: as many as there are blocks in work. Safe between two threads."""

    def __init__(self) -> None:
        self._idle: list[Workspace] = []
        self._thread = ThreadPoolExecutor(1, "read")  # starts with the first block

    def submit(self, block: Block) -> Future[EventBlock]:
        """Read a block in the thread."""
        return self._thread.submit(read_block, block, self.acquire())

    def acquire(self) -> Workspace:
        """Return an idle workspace, a new one if there is none."""
        try:
            return self._idle.pop()
        except IndexError:
            return Workspace()

    def release(self, workspace: Workspace) -> None:
        """Make a workspace available again; its block must not be used any more."""
        self._idle.append(workspace)

    def stop(self) -> None:
        """End the thread after the block at work."""
        self._thread.shutdown(wait=False, cancel_futures=True)
