"""Exercises that check themselves: `from tinydiff.exercises import check; check("1.3", my_function)`.

A check calls the function with small arrays of odd shapes and compares every number with the truth.  Where an answer is
wrong it says what was expected, what came, where they differ most, and, for mistakes that many make, which one it is.
Each section of the notebooks has its file here; `python -m tinydiff.exercises` hands them out and grades them.
"""

import importlib
from collections.abc import Callable
from typing import Any

from tinydiff.errors import InputError
from tinydiff.exercises.checking import Answer, Exercise, Wrong

SECTIONS = ("convolution", "unet", "diffusion", "latents", "text", "stable_diffusion")  # 1, 2, …: a module each


def exercises() -> dict[str, Exercise]:
    """All exercises by their numbers, in order."""
    modules = [importlib.import_module(f"{__name__}.{section}") for section in SECTIONS]
    return {e.number: e for module in modules for e in vars(module).values() if isinstance(e, Exercise)}


def exercise(number: str) -> Exercise:
    """The exercise of that number; InputError names those that there are."""
    found = exercises()
    if number not in found:
        raise InputError(f"no exercise {number!r}; there are {', '.join(found)}")
    return found[number]


def check(number: str, function: Callable[..., Any]) -> None:
    """Say "right", or raise Wrong with what was expected, what came, and a hint where the mistake is a known one."""
    chosen = exercise(number)
    chosen.check(Answer(chosen, function))
    print(f"{number} {chosen.title}: right")
