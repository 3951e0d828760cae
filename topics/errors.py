"""The operator's errors: a wrong option, an unavailable broker, a full disk.

A peer's errors are counted and answered where they occur. Our own are asserts, which crash.
"""

from __future__ import annotations


class OperatorError(Exception):
    """An error that the operator can correct.

    The message is one line that says what to do. Commands print ``tidegate: message`` on standard error and exit with
    status 2.
    """
