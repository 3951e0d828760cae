"""Several processes that form one edge: a supervisor starts them, restarts those that die, and stops all of them together.

The processes share only their listeners. The kernel distributes the clients of TCP ports (SO_REUSEPORT); UNIX sockets and
systemd's are inherited, and the first process to accept gets the client. The supervisor serves no client and holds no data. If
it dies, its end of a pipe closes, and the other processes stop in order.

A process that ends with the exit status of misuse has logged an error that would repeat, so all processes stop. `fork` is safe
here because it precedes any thread, event loop or connection.
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
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RESTART_DELAY_S = 1.0
MISUSE = 2


class ProcessSlot(NamedTuple):
    """The position of one process among the edge's processes."""

    number: int = 1  # from 1
    processes: int = 1
    supervisor_fd: int = -1  # becomes readable when the supervisor dies; -1 without one


class Supervisor:
    """The parent of `count` processes."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._numbers: dict[int, int] = {}  # process numbers by process id
        self._stop_signal = self._misused = 0
        self._read_fd, self._write_fd = os.pipe()

    def run(self) -> ProcessSlot | None:
        """Fork the processes and supervise them until a stop signal has ended them all.

        Returns the slot in each of the processes, None in the supervisor. Raises `OperatorError` in the supervisor if a
        process cannot run.
        """
        for stop_signal in STOP_SIGNALS:
            signal.signal(stop_signal, self._stop)
        starting = list(range(1, self._count + 1))
        while starting or self._numbers:
            for number in starting:
                if self._stop_signal == 0 and self._fork(number):
                    return ProcessSlot(number, self._count, self._read_fd)
            starting = self._wait() if self._numbers else []
        if self._misused:
            raise OperatorError(f"process {self._misused} of the edge can't run, for the reason above")
        return None

    def _fork(self, number: int) -> bool:
        """Return True in the new process."""
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        process = os.fork()
        if process:
            self._numbers[process] = number
        else:
            os.close(self._write_fd)
            for stop_signal in STOP_SIGNALS:
                signal.signal(stop_signal, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return not process

    def _wait(self) -> list[int]:
        """Wait until a process ends. Return the numbers to start again."""
        process, wait_status = os.wait()
        number, status = self._numbers.pop(process), os.waitstatus_to_exitcode(wait_status)
        if status == MISUSE and not self._misused:
            self._misused = number
            self._stop(signal.SIGTERM)
        if self._stop_signal:
            return []
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        logger.error("process %d of %d (pid %d) ended %s, restarting it", number, self._count, process, how)
        time.sleep(RESTART_DELAY_S)
        return [number]

    def _stop(self, number: int, _frame: FrameType | None = None) -> None:
        self._stop_signal = number
        for process in list(self._numbers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
