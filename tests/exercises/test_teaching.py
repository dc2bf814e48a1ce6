"""The teacher's page names every exercise with its points."""

from pathlib import Path

from tinydiff.exercises import exercises

PAGE = Path(__file__).parents[2] / "notebooks" / "exercises" / "TEACHING.md"


def test_the_page_lists_every_exercise_and_the_sums():
    page = PAGE.read_text(encoding="utf-8")
    for number, exercise in exercises().items():
        assert f"| {number} | {exercise.title} | `{exercise.name}` | {exercise.points} |" in page
    for section in {number[0] for number in exercises()}:
        points = sum(e.points for number, e in exercises().items() if number.startswith(f"{section}."))
        assert f"ipynb) | {points} |" in page
