"""Interleaved timing: contenders take turns, so that a slow moment of the machine hits them all; medians count."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinydiff.errors import MismatchError


@dataclass(frozen=True)
class Timing:
    """One line of a benchmark: seconds of tinydiff and of what it is compared with, medians over the rounds.

    In the group "memory" they are bytes.
    """

    group: str
    name: str
    ours: float
    theirs: float | None = None
    against: str = "PyTorch"
    work: float | None = None  # multiply-adds, where a rate says something

    @property
    def ratio(self) -> float | None:
        """How many times as fast tinydiff is."""
        return None if self.theirs is None else self.theirs / self.ours

    @property
    def rate(self) -> float | None:
        """Billions of floating-point operations a second, counted as the direct way would need them."""
        return None if self.work is None else 2e-9 * self.work / self.ours


REST = 0.02  # seconds before each turn: the other's idle threads spin for a while before they sleep


def time_interleaved(*contenders: Callable[[], object], rounds: int = 15, warmup: int = 2) -> list[float]:
    """Median seconds of each contender over interleaved rounds; a turn is a rest, a call that warms up, a timed one."""
    for _ in range(warmup):
        for contender in contenders:
            contender()
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, seconds in zip(contenders, times, strict=True):
            time.sleep(REST)
            contender()
            start = time.perf_counter()
            contender()
            seconds.append(time.perf_counter() - start)
    return [float(np.median(seconds)) for seconds in times]


def geometric_mean(numbers: list[float]) -> float:
    return float(np.exp(np.mean(np.log(numbers))))


def assert_close(name: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-4, least: float = 1e-6) -> None:
    """Raises MismatchError unless both are the same up to `tolerance` of the largest (or of `least`, if that is more).

    Only equal work is timed.
    """
    if ours.shape != theirs.shape:
        raise MismatchError(f"bench: {name} has shape {ours.shape}, but {theirs.shape} in the reference")
    error = float(abs(ours - theirs).max() / max(abs(theirs).max(), least))
    if not error <= tolerance:
        raise MismatchError(
            f"bench: {name} differs from the reference's by {error:.1e} of the largest, expected ≤ {tolerance}"
        )
