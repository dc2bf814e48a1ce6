"""Output to whatever reads it: a console of any encoding, a pipe that is closed early, a log that is no terminal."""

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

CLOSED_PIPE = 141  # what a shell reports of a program whose output nobody reads any more: 128 + SIGPIPE
EVERY = 60.0  # seconds between the lines of a bar in a log


def on_console(command: Callable[[], int]) -> int:
    """Call it and return its exit status, or CLOSED_PIPE where the output's reader has gone (`… | head -1`).

    What the console's encoding cannot show is written as `\\u7d30`, where Python would stop.
    """
    if getattr(sys.stdout, "errors", None) == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            return command()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # or Python would complain of what is left in their buffers
            os.dup2(nowhere, stream.fileno())
        return CLOSED_PIPE


def progress_bar(**options: Any) -> Any:
    """tqdm's bar on stderr; where that is a log, which keeps all that it is sent, a line a minute."""
    from tqdm import tqdm

    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        return tqdm(**options)
    return tqdm(**options, file=Lines(sys.stderr), mininterval=EVERY, maxinterval=EVERY, miniters=1)


class Lines:
    """A file for tqdm that makes a line of each state of the bar."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, text: str) -> None:
        if text.strip():
            self.file.write(f"{text.strip()}\n")

    def flush(self) -> None:
        self.file.flush()
