"""What all checks are made of: an answer is called, and compared number by number with the truth."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

TOLERANCE = 1e-6  # of the largest number that is expected, in float64


class Wrong(AssertionError):
    """An answer that is not right; a notebook shows its text alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True)
class Exercise:
    """One exercise: `check` calls an Answer, compares what comes, and raises Wrong."""

    number: str  # "1.3": section and place in it
    title: str
    name: str  # of the function that is asked for
    points: int
    check: Callable[[Answer], None]


def exercise(number: str, title: str, points: int) -> Callable[[Callable[[Answer], None]], Exercise]:
    """Makes an Exercise of a check, which has the name of the function that is asked for."""
    return lambda check: Exercise(number, title, check.__name__, points, check)


class Answer:
    """A student's function: whatever it does, what comes of it is a value or a Wrong that names the exercise."""

    def __init__(self, exercise: Exercise, function: Callable[..., Any]) -> None:
        self.exercise, self.function = exercise, function

    def wrong(self, message: str) -> Wrong:
        """A Wrong that says which exercise it is about."""
        return Wrong(f"{self.exercise.number} {self.exercise.title}: not right yet\n  {message}")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """What the function gives for these inputs, of which arrays are passed as copies and must stay as they are."""
        if self.function is None:
            raise self.wrong(f"{self.exercise.name} is not written yet")
        if not callable(self.function):
            raise self.wrong(f"{self.exercise.name} is {self.function!r}, expected a function")
        given = [i.copy() if isinstance(i, np.ndarray) else i for i in inputs]
        try:
            result = self.function(*given, **options)
        except NotImplementedError:
            raise self.wrong(f"{self.exercise.name} is not written yet") from None
        except Exception as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
            where = f" in line {frames[0].lineno} of its cell or file" if frames else ""
            failed = f"{self.exercise.name}{_described(inputs)} raised {type(error).__name__}{where}: {error}"
            raise self.wrong(failed) from None
        for place, (before, after) in enumerate(zip(inputs, given, strict=True)):
            if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=before.dtype.kind == "f"):
                ordinal = ("first", "second", "third")[place] if place < 3 else f"{place + 1}th"
                raise self.wrong(
                    f"{self.exercise.name} changes its {ordinal} argument in place; "
                    "whoever called it still needs the old values: work on a copy"
                )
        return result

    def whole(self, *inputs: Any) -> Any:
        """The same for an answer that is a number of pixels."""
        came = self(*inputs)
        if isinstance(came, float):
            raise self.wrong(f"a number of pixels is whole: {came!r} came for {', '.join(map(repr, inputs))}; use //")
        return came

    def expect(
        self, came: Any, expected: Any, what: str, hints: Mapping[str, Any] = {}, tolerance: float = TOLERANCE
    ) -> None:
        """Raise Wrong unless `came` is `expected`: an array or number, or a tuple of them with names in `what`.

        what: what it is, for the message; for a tuple its names, "dx, dw".  hints: text → what this mistake would give.
        tolerance: of the largest expected number.
        """
        if isinstance(expected, tuple):
            names = what.split(", ")
            if not isinstance(came, (tuple, list)) or len(came) != len(expected):
                raise self.wrong(f"expected {len(expected)} results ({what}); {_described(came)} came")
            for name, one, right in zip(names, came, expected, strict=True):
                own = {text: value[names.index(name)] for text, value in hints.items()}
                self.expect(one, right, name, own, tolerance)
            return
        if came is None:
            raise self.wrong(f"{what}: nothing came (None); is a return missing?")
        right = np.asarray(expected)
        try:
            got = np.asarray(came)
        except (ValueError, TypeError):
            got = np.array(None)
        if got.dtype.kind not in "iufb":
            raise self.wrong(f"{what}: expected {_described(right)}; {_described(came)} came")
        hint = _hint(got, hints, tolerance)
        if got.shape != right.shape:
            raise self.wrong(f"{what}: expected shape {right.shape}, shape {got.shape} came{hint}")
        with np.errstate(invalid="ignore"):  # ∞ − ∞
            difference = np.where(got == right, 0.0, abs(got.astype(float) - right))
        limit = tolerance * max(1e-8, float(abs(right[np.isfinite(right)]).max(initial=0)))
        if not difference.max(initial=0) <= limit:
            index = tuple(int(i) for i in np.unravel_index(difference.argmax(), difference.shape))  # of a nan, if any
            at = f" at index {list(index)}" if index else ""
            if np.isnan(difference[index]):
                raise self.wrong(f"{what}: {got[index]} came{at}, expected {right[index]:.6g}")
            share = 100 * (difference > limit).mean()
            many = f", where they differ most; {share:.0f} % of the numbers differ" if right.size > 1 else ""
            raise self.wrong(f"{what}: expected {right[index]:.6g}, {float(got[index]):.6g} came{at}{many}{hint}")

    def expect_same(self, came: Any, expected: Any, what: str, hints: Mapping[str, Any] = {}) -> None:
        """Raise Wrong unless `came` is `expected`, a text or a list of texts."""
        if came is None:
            raise self.wrong(f"{what}: nothing came (None); is a return missing?")
        came = list(came) if isinstance(came, tuple) else came
        if type(came) is not type(expected) or came != expected:
            hint = next((f"\n  Hint: {text}" for text, value in hints.items() if value == came != expected), "")
            raise self.wrong(f"{what}: expected {expected!r}; {_described(came)} came{hint}")


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Arrays of these shapes, float64, drawn from N(0, 1)."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def _hint(got: np.ndarray, hints: Mapping[str, Any], tolerance: float) -> str:
    """The hint of a mistake that would give just this."""
    for text, value in hints.items():
        value = np.asarray(value)
        scale = tolerance * max(1e-8, float(abs(value).max(initial=0)))
        if got.shape == value.shape and abs(got - value).max(initial=0) <= scale:
            return f"\n  Hint: {text}"
    return ""


def _described(value: Any) -> str:
    """For messages: an array by its shape, another value by itself."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"array {value.shape}"
    if isinstance(value, tuple):
        return f"({', '.join(_described(v) for v in value)})"
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}…"
