"""tinydiff's own exceptions; the command line answers them in one line instead of a traceback."""


class InputError(ValueError):
    """An argument or a file does not fit; raised before anything is changed.  The command line exits with 2."""


class MismatchError(Exception):
    """A result is not what it was compared with: two computations differ, or a wanted figure was not reached."""
