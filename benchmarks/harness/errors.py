"""What ends a benchmark without a result."""


class Broken(Exception):
    """Something that was measured broke down or couldn't be started; the message is one line."""
