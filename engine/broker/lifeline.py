"""The program between this process and Java: it ends Java when this process ends, for whatever reason.

Run as `python -I -S lifeline.py GRACE_S COMMAND...`, with the standard library alone. It starts COMMAND, writes its pid to
standard output, and reads requests from standard input: `stop` (SIGTERM, and SIGKILL after GRACE_S) or `kill`. The end of
standard input, which the kernel causes when the other end dies, is a `stop`. So is a change of parent, in case a forked
relative still holds the pipe. Its exit status is that of COMMAND.

It runs in its own session: Ctrl-C in the terminal reaches neither it nor Java, so the parent stops first and in order. If this
program is killed, Linux kills Java: the kernel ties that to the thread that forked, and this program has only one. A Python
process with threads that forked Java itself would lose Java together with the thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys

PARENT_CHECK_S = 1.0
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """In the forked child: request SIGKILL from Linux for when the parent dies; exit if it has died already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != LIFELINE_PID:
            os._exit(1)


LIFELINE_PID = os.getpid()


def _requested(wake: int, parent: int) -> str:
    """Return the next request, "" after a signal or after the interval of the parent check."""
    ready, _, _ = select.select([0, wake], [], [], PARENT_CHECK_S)
    signals = os.read(wake, 64) if wake in ready else b""
    if signal.SIGTERM in signals or os.getppid() != parent:
        return "stop"
    if 0 in ready:
        request = os.read(0, 64).decode()
        return "kill" if "kill" in request else "stop"
    return ""


def _exit_status(child: subprocess.Popen[bytes], grace_s: float, parent: int, wake: int) -> int:
    """Serve requests until `child` has ended, and return its exit status. Only the first request is read."""
    while child.poll() is None:
        request = _requested(wake, parent)
        if not request:
            continue
        if request == "stop":
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(grace_s)
        if child.poll() is None:
            child.kill()
        child.wait()
    status = child.returncode
    return status if status >= 0 else 128 - status


def main(grace_s: float, command: list[str]) -> int:
    """Run a command to its end. Return its exit status, 128 + n if signal n ended it."""
    parent = os.getppid()
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # This program is single-threaded: a preexec_fn is safe.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=2,
        stderr=2,
        preexec_fn=_end_with_parent,  # noqa: PLW1509
    )
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{child.pid}\n".encode())
    return _exit_status(child, grace_s, parent, wake)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
