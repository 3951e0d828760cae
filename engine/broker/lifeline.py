"""The program between us and a Java process: it ends Java when we end, however we end.

Run as `python -I -S lifeline.py GRACE_S COMMAND…`, from the standard library alone. It starts COMMAND, writes its pid to
standard output, and reads requests from standard input: `stop` (SIGTERM, and SIGKILL after GRACE_S) or `kill`. The end of
standard input, which the kernel brings about when its other end has died of whatever cause, is a `stop`; so is a change of
parent, for the case that a forked relative of ours still holds the pipe. It exits with COMMAND's status.

It runs in a session of its own: Ctrl-C in the terminal reaches neither it nor Java, so that we end first and in order.
Should this program itself be killed, Linux kills Java with it: the kernel ties that to the thread that forked, and this
program has only one (a Python with threads, forking Java itself, would lose it with the thread).
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
    """In the forked child: ask Linux for SIGKILL when the parent dies, and look whether it already has."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != LIFELINE_PID:
            os._exit(1)


LIFELINE_PID = os.getpid()


def _requested(wake: int, parent: int) -> str:
    """The next request, or nothing when only a signal or the time for the parent check has passed."""
    ready, _, _ = select.select([0, wake], [], [], PARENT_CHECK_S)
    signals = os.read(wake, 64) if wake in ready else b""
    if signal.SIGTERM in signals or os.getppid() != parent:
        return "stop"
    if 0 in ready:
        words = os.read(0, 64).decode()
        return "kill" if "kill" in words else "stop"
    return ""


def _exit_status(child: subprocess.Popen[bytes], grace_s: float, parent: int, wake: int) -> int:
    """Serve requests until ``child`` has ended. After the first, standard input is not read any more."""
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
    """Run ``command`` to its end; its exit status, 128 + n when signal n ended it."""
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
