"""A Java process held by its lifeline: started, asked to stop, killed, watched. `lifeline.py` says what it promises."""

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
# What a killed process may need to be gone, over the grace that it was given before.
KILL_S = 10.0


class HeldProcess:
    """``command`` running in ``folder``, its output in ``console``.

    ``grace_s``: the time between SIGTERM and SIGKILL. ``keep``: descriptors to hold open until the command is gone."""

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
        self.pid = self._started()

    def _started(self) -> int:
        """The command's pid; 0 when it could not be started, which `running` then tells too."""
        assert self._lifeline.stdout is not None
        ready, _, _ = select.select([self._lifeline.stdout], [], [], START_S)
        if not ready:
            self._lifeline.kill()
            raise OperatorError(f"Java could not be started within {START_S:.0f} s: is this machine short of memory?")
        return int(self._lifeline.stdout.readline() or 0)

    @property
    def running(self) -> bool:
        """Whether the command still runs."""
        return self._lifeline.poll() is None

    def stop(self) -> None:
        """SIGTERM, after the grace SIGKILL; returns when the process is gone."""
        self._request(b"stop\n", self._grace_s + KILL_S)

    def kill(self) -> None:
        """SIGKILL at once; returns when the process is gone."""
        self._request(b"kill\n", KILL_S)

    def _request(self, word: bytes, timeout_s: float) -> None:
        assert self._lifeline.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self._lifeline.stdin.write(word)
        try:
            self._lifeline.wait(timeout_s)
        finally:
            # Closed even when the wait was interrupted: the lifeline then finishes by itself.
            for pipe in (self._lifeline.stdin, self._lifeline.stdout):
                if pipe is not None:
                    pipe.close()
