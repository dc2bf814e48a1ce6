"""The command line: `parser` says what a command takes, `types` what an argument must be, `commands` what is done."""

import argparse
import sys
import warnings
from collections.abc import Sequence

from tinydiff.apps.console import on_console
from tinydiff.cli.parser import build_parser
from tinydiff.errors import InputError, MismatchError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 2 for bad input, 1 for wrong results (NaN, a mismatch), 130 at Ctrl-C."""
    return on_console(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    warnings.filterwarnings("ignore", module=r"PIL\.")  # a damaged file gets one line, ours
    try:
        args = build_parser().parse_args(argv)
        args.run(args)
    except BrokenPipeError:
        raise
    except (InputError, argparse.ArgumentTypeError, OSError) as error:
        return _complain(error, 2)
    except (FloatingPointError, MismatchError) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    return 0


def _complain(error: object, status: int) -> int:
    print(f"tinydiff: {error}", file=sys.stderr)
    return status
