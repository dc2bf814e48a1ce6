"""`python -m tinydiff` is the command line."""

import sys

from tinydiff.cli import main

if __name__ == "__main__":
    sys.exit(main())
