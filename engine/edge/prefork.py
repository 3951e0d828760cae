"""Several processes that are one edge: a parent that starts them, starts again who dies, and tells all of them to end.

Each is an edge of its own in all but the doors: the kernel deals out the clients of TCP ports (SO_REUSEPORT), UNIX sockets
and those of systemd are inherited, and whoever is quicker takes the client. The parent answers nobody and holds nothing, so
there is little that it could die of; if it does, its end of a pipe closes and the others end in order.

Who ends with the status of misuse has said why, and would say it again: then all end. `fork` is right here because it comes
before any thread, loop or connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from types import FrameType
from typing import NamedTuple

from topics.errors import OperatorError

logger = logging.getLogger(__name__)
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 1.0
MISUSE = 2


class Seat(NamedTuple):
    """One of the processes: its number, from 1, and how many there are. ``parent``: a file descriptor that can be read as
    soon as the parent is gone, -1 without one."""

    number: int = 1
    of: int = 1
    parent: int = -1


class Parent:
    """Of ``count`` processes."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._numbers: dict[int, int] = {}
        self._told = self._refused = 0
        self._gone, self._there = os.pipe()

    def run(self) -> Seat | None:
        """In each of the processes its seat; in the parent None, when it was told to end and all have ended. `OperatorError` in
        the parent if one of them can't run."""
        for stopping in STOPPING:
            signal.signal(stopping, self._tell)
        starting = list(range(1, self._count + 1))
        while starting or self._numbers:
            for number in starting:
                if self._told == 0 and self._start(number):
                    return Seat(number, self._count, self._gone)
            starting = self._wait() if self._numbers else []
        if self._refused:
            raise OperatorError(f"process {self._refused} of the edge can't run, for the reason above")
        return None

    def _start(self, number: int) -> bool:
        """Whether this is the new process."""
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        process = os.fork()
        if process:
            self._numbers[process] = number
        else:
            os.close(self._there)
            for stopping in STOPPING:
                signal.signal(stopping, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        return not process

    def _wait(self) -> list[int]:
        """Wait until a process ends; the numbers of those to start again."""
        process, ended = os.wait()
        number, status = self._numbers.pop(process), os.waitstatus_to_exitcode(ended)
        if status == MISUSE and not self._refused:
            self._refused = number
            self._tell(signal.SIGTERM)
        if self._told:
            return []
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        logger.error("process %d of %d, %d, ended %s: it is started again", number, self._count, process, how)
        time.sleep(AGAIN_S)
        return [number]

    def _tell(self, number: int, _frame: FrameType | None = None) -> None:
        self._told = number
        for process in list(self._numbers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
