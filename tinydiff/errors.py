"""What the command line tells in one line instead of a traceback."""


class InputError(ValueError):
    """What was given does not fit, and nothing was changed because of it; the command line exits with 2."""


class MismatchError(Exception):
    """Two ways to compute one thing gave different results, so that comparing their speed means nothing."""
