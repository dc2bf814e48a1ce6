"""Interleaved timing: contenders take turns, so that a slow moment of the machine hits them all; medians count."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

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
# Seconds, at least, of calls that do not count: after a rest the system may put both threads on one core, and takes
# some ten milliseconds to part them again.
WARM = 0.05


def time_interleaved(
    *contenders: Callable[[], object], rounds: int = 15, warmup: int = 2, device: str = "cpu"
) -> list[float]:
    """Median seconds of each contender over interleaved rounds; a turn is a rest, calls that warm up, a timed one."""
    wait = waiter(device)
    for _ in range(warmup):
        for contender in contenders:
            contender()
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, seconds in zip(contenders, times, strict=True):
            seconds.append(turn(contender, wait))
    return [float(np.median(seconds)) for seconds in times]


def turn(contender: Callable[[], object], wait: Callable[[], None] = lambda: None) -> float:
    """Seconds of one call, after a rest and calls that warm up."""
    time.sleep(REST)
    warm = time.perf_counter() + WARM
    while True:
        contender()
        wait()
        start = time.perf_counter()
        if start >= warm:
            break
    contender()
    wait()
    return time.perf_counter() - start


def waiter(device: str) -> Callable[[], None]:
    """What waits until the device has done its work: on a GPU a launch returns at once."""
    if device == "cpu":
        return lambda: None
    import cupy

    return cupy.cuda.Device().synchronize


def has_torch(device: str = "cpu") -> bool:
    """Whether PyTorch is here and reaches the device; on a GPU it then computes in float32 as we do, not in TF32."""
    if find_spec("torch") is None:
        return False
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return device == "cpu" or torch.cuda.is_available()


def start_torch() -> None:
    """As many threads for PyTorch as for tinydiff, and its pool started first.

    Where Numba's OpenMP pool is there before PyTorch's, PyTorch's backward takes fifty times as long.
    """
    if not has_torch():
        return
    import numba
    import torch

    torch.set_num_threads(numba.config.NUMBA_NUM_THREADS)  # get_num_threads would start Numba's
    torch.nn.functional.conv2d(torch.ones(8, 16, 64, 64), torch.ones(16, 16, 3, 3)).sum()


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
