"""The command line: `parser` says what a command takes, `types` what an argument must be, `commands` what is done."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from tinydiff.cli.parser import build_parser
from tinydiff.errors import InputError, MismatchError

SPINS = "1000"  # turns that a waiting thread takes before it sleeps; GCC's OpenMP takes 300,000


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it went well, 2 for bad input, 1 for wrong results (NaN, a mismatch), 130 at Ctrl-C."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # a damaged file gets one line, ours
    try:
        args = build_parser().parse_args(argv)
        if args.command != "bench":  # which compares with PyTorch as both come
            # Threads that spin for long take the core from whatever else runs there, and then wait for it themselves.
            os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
        args.run(args)
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
