"""Errors that end a benchmark with one line and an exit status."""


class Broken(Exception):
    """A program under test failed or can't be started; the message is one line. Exit status 2."""


class WrongAnswer(Broken):
    """A reply or a count is wrong, so there is no figure. Exit status 1."""
