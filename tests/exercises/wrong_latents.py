"""Plausible wrong answers: name → (answer, a piece of what must be said)."""

WRONG: dict = {}
