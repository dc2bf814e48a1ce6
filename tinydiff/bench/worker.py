"""Contenders in processes of their own: threads that wait by spinning would disturb each other's within one.

`python -m tinydiff.bench.worker MODULE ARGUMENT…` makes `MODULE.contender(ARGUMENT…)`, a function, and for each line
that it reads says how many seconds a turn of it took.
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

from tinydiff import SPINS
from tinydiff.bench.timing import turn
from tinydiff.errors import InputError

OURS = "tinydiff"
LIBGOMP_SPINS = "300000"  # its own choice, for PyTorch, where only tinydiff's import has set another


class Worker:
    """A contender that waits in its process until it is asked."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self.name = arguments[0]
        environment = dict(os.environ)
        if self.name != OURS and environment.get("GOMP_SPINCOUNT") == SPINS:
            environment["GOMP_SPINCOUNT"] = LIBGOMP_SPINS
        command = [sys.executable, "-m", __name__, module, *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def seconds(self) -> float:
        """How long a call takes."""
        asked, answers = self.process.stdin, self.process.stdout
        assert asked is not None and answers is not None
        try:
            print(file=asked, flush=True)
            return float(answers.readline())
        except (BrokenPipeError, ValueError):
            raise InputError(f"bench: {self.name} ended with status {self.process.wait()}") from None

    def close(self) -> None:
        self.process.communicate()  # its input ends, and so does it


def in_turns(module: str, contenders: Sequence[Sequence[str]], rounds: int, warmup: int = 2) -> list[float]:
    """Median seconds of each contender, named by the arguments that it is made from; A B A B …

    The first argument is the library.  Raises InputError where one ends.
    """
    workers = [Worker(module, arguments) for arguments in contenders]
    try:
        for worker in workers:  # one after the other: some compile first
            for _ in range(warmup):
                worker.seconds()
        times = [[worker.seconds() for worker in workers] for _ in range(rounds)]
    finally:
        for worker in workers:
            worker.close()
    return np.median(times, axis=0).tolist()


def main(module: str, *arguments: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    contender = importlib.import_module(module).contender(*arguments)
    for _ in sys.stdin:
        print(turn(contender), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
