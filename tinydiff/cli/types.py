"""What an argument of the command line must be: a function makes the value from its text, or says what it expected."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """argparse's parser, with one line instead of the whole usage where an argument is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"tinydiff: {message}\n")


def at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"got {text}, expected a whole number, {least} or more")
        return value

    return whole_number


def guidance_scale(text: str) -> float:
    value = _number(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"got {text}, expected a number, 0 or more (1 is no guidance)")
    return value


def noise_level(text: str) -> float | None:
    value = None if text == "auto" else _number(text)
    if value is not None and not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"got {text}, expected auto, or the noise's standard deviation in grey levels")
    return value


def share(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a number between 0 and 1")
    return value


def share_or_end(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a number from 0 to 1")
    return value


def part_of_one(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a number above 0, at most 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def prompt(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError(
            'the prompt is empty, expected something like "a red dress on a white background"'
        )
    return text


def existing_folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(
            f"{text} is {'not a folder' if path.exists() else 'a folder that does not exist'}"
        )
    return path


def existing_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is {'no file' if path.exists() else 'a file that does not exist'}")
    return path


def folder_to_make(text: str) -> Path:
    path = Path(text)
    _writable(next(folder for folder in (path, *path.parents, Path.cwd()) if folder.exists()))
    return path


def file_to_write(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder, expected the name of a file")
    _writable(path.parent)
    return path


def picture_to_write(text: str) -> Path:
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"got {text}, expected a name that ends in .png")
    return file_to_write(text)


def _writable(folder: Path) -> None:
    import tempfile

    try:
        existing_folder(str(folder))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write to the folder {folder} ({error.strerror})") from None
