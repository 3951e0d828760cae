"""The operator's errors: a wrong option, a broker that is down, a full disk.

The peer's errors are counted and answered where they are met; our own are asserts, which crash. Declared here and known
to the engine as `topics.errors`, so that checking a cluster's topics needs nothing of the engine.
"""

from __future__ import annotations


class OperatorError(Exception):
    """Something that the operator can mend. The message is one line that says what to do; the command line prints it as
    ``tidegate: message`` on standard error and exits with status 2."""
