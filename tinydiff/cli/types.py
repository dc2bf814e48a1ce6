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


def number(
    low: float, high: float = math.inf, *, above: bool = False, below: bool = False, meaning: str = ""
) -> Callable[[str], float]:
    """A finite number from low to high; with above and below the ends themselves are left out."""
    expected = f"a number {'above' if above else 'of at least'} {low:g}"
    if high < math.inf:
        expected += f", {'below' if below else 'at most'} {high:g}"

    def finite_number(text: str) -> float:
        value = _float(text)
        inside = (value > low if above else value >= low) and (value < high if below else value <= high)
        if not (inside and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"got {text}, expected {expected}{meaning}")
        return value

    return finite_number


guidance_scale = number(0, meaning=" (1 is no guidance)")


def noise_level(text: str) -> float | None:
    value = None if text == "auto" else _float(text)
    if value is not None and not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"got {text}, expected auto, or the noise's standard deviation in grey levels")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def prompt(text: str) -> str:
    if not text.strip():
        example = '"a red dress on a white background"'
        raise argparse.ArgumentTypeError(f"the prompt is empty, expected something like {example}")
    return text


def existing_folder(text: str) -> Path:
    return _existing(text, Path.is_dir, "a folder")


def existing_file(text: str) -> Path:
    return _existing(text, Path.is_file, "a file")


def existing(text: str) -> Path:
    return _existing(text, Path.exists, "a file or folder")


def _existing(text: str, is_expected: Callable[[Path], bool], what: str) -> Path:
    path = Path(text)
    if is_expected(path):
        return path
    problem = f"not {what}" if path.exists() else f"{what} that does not exist"
    raise argparse.ArgumentTypeError(f"{text} is {problem}")


def folder_to_make(text: str) -> Path:
    path = Path(text)
    _writable(next(folder for folder in (path, *path.parents, Path.cwd()) if folder.exists()))
    return path


def file_to_write(text: str) -> Path:
    path = Path(text)
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a device"
        raise argparse.ArgumentTypeError(f"{text} is {what}, expected the name of a file")
    _writable(path.resolve().parent if path.is_symlink() else path.parent)
    return path


def png_to_write(text: str) -> Path:
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
