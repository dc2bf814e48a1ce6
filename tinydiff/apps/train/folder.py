"""The folder of a run: what may be written there, and what must not be touched."""

from pathlib import Path

from tinydiff import checkpoint
from tinydiff.errors import InputError


def run_folder(folder: Path) -> Path:
    """The folder, made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"train: the folder {folder} cannot be made ({error.strerror})") from None
    return folder


def refuse_existing(folder: Path, names: tuple[str, ...]) -> None:
    """A new run must not begin where another one's files lie."""
    for name in names:
        for file in (folder / f"{name}.safetensors", folder / f"{name}.checkpoint.safetensors"):
            if file.exists():
                raise InputError(f"train: {file} is there already; go on with --resume, or choose another --out")


def refuse_another_run(path: Path, training: dict[str, str]) -> None:
    """A finished part is kept only if this run would have made it."""
    if not path.exists():
        return
    found = checkpoint.load(path)[1].get("training", {})
    for key, expected in training.items():
        if found.get(key) != expected:
            why = f"{key} {found.get(key)!r}, not {expected!r}"
            raise InputError(f"{path}: from another run ({why}); choose another --out")
