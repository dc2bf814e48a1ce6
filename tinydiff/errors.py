"""The one error that means: what you gave does not fit, and nothing was changed because of it."""


class InputError(ValueError):
    """Bad input, told in one line: what came and what was expected.  The command line prints it and exits with 2."""
