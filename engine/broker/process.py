"""A Java process with its lifeline: start, stop, kill. `lifeline.py` describes the guarantees."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from engine.broker.java import java_environment
from topics.errors import OperatorError

_LIFELINE = Path(__file__).with_name("lifeline.py")
START_S = 60.0
KILL_S = 10.0  # until a killed process has ended


class JavaProcess:
    """A command that runs in `folder` with its output in `console`.

    `grace_s`: time between SIGTERM and SIGKILL. `keep`: file descriptors that stay open until the command has ended.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, console: BinaryIO, grace_s: float, keep: Sequence[int] = ()
    ) -> None:
        self._grace_s = grace_s
        self._lifeline = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LIFELINE), str(grace_s), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=console,
            cwd=folder,
            env=java_environment(),
            pass_fds=keep,
            start_new_session=True,
            bufsize=0,
        )
        self.pid = self._read_pid()

    def _read_pid(self) -> int:
        """Return the command's pid, 0 if it could not be started; `running` is False then."""
        assert self._lifeline.stdout is not None
        ready, _, _ = select.select([self._lifeline.stdout], [], [], START_S)
        if not ready:
            self._lifeline.kill()
            raise OperatorError(f"Java could not be started within {START_S:.0f} s: check free memory and load")
        return int(self._lifeline.stdout.readline() or 0)

    @property
    def running(self) -> bool:
        """True while the command runs."""
        return self._lifeline.poll() is None

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after the grace; return when the process has ended."""
        self._request(b"stop\n", self._grace_s + KILL_S)

    def kill(self) -> None:
        """Send SIGKILL; return when the process has ended."""
        self._request(b"kill\n", KILL_S)

    def _request(self, request: bytes, timeout_s: float) -> None:
        assert self._lifeline.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has already ended
            self._lifeline.stdin.write(request)
        try:
            self._lifeline.wait(timeout_s)
        finally:
            # Closed even if the wait was interrupted: the lifeline then ends by itself.
            for pipe in (self._lifeline.stdin, self._lifeline.stdout):
                if pipe is not None:
                    pipe.close()
