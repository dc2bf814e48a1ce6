"""Peak memory of training steps, each side in a process of its own: `python -m tinydiff.bench.memory ours|theirs`."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tinydiff.bench.timing import Timing

STEPS = 4


def memory_rows(rounds: int) -> Iterator[Timing]:
    """Bytes by which the resident size grows at most from the made model through its training steps; on Linux."""
    if not Path("/proc/self/clear_refs").exists():
        return
    from tinydiff.bench import steps

    ours = _in_a_process("ours")
    theirs = _in_a_process("theirs") if steps.has_reference() else None
    yield Timing("memory", "denoiser, 8×8×4, batch 64", ours, theirs)


def _in_a_process(side: str) -> float:
    done = subprocess.run([sys.executable, "-m", __name__, side], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _measure(side: str) -> int:
    from tinydiff.bench import steps
    from tinydiff.kernels.cpu.arrays import reuse_memory

    reuse_memory()
    task = steps.shipped_denoiser()
    config = task.optim
    run = steps.trainer(task, config) if side == "ours" else steps.reference_trainer(task, config)[2]
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest size so far
    for _ in range(STEPS):
        run()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """A size in bytes from Linux's account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    print(_measure(sys.argv[1]))
