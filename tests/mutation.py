"""Would the tests notice?  Change one thing in the numerics, run its tests, put it back; again for a sample of changes.

    python tests/mutation.py                   # 300 mutants, drawn with a fixed seed from all that there are
    python tests/mutation.py --only ops/conv   # of one file or folder
    python tests/mutation.py --from 120        # those from the 120th on, where a run was cut short
    python tests/mutation.py --show            # what would be run

A mutant changes an operator, a comparison, a number or a truth value, or drops a statement.  It is killed where a test
fails, or where the tests take five times the processor time that they take without it (twice what they take with all
kernels to compile, for a mutant of those, which are then compiled anew).  Those that live are listed:
they show that a test is missing, or they change nothing that a test could see, and are in EQUIVALENT with the reason.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[1]
COPIED = ("tinydiff", "tests", "data", "notebooks/results", "pyproject.toml", "setup.cfg", "README.md")

# Which tests belong to a file or folder of tinydiff/: the first that fits.
TESTS = {
    "autograd": "tests/test_autograd.py tests/test_gradcheck.py tests/ops",
    "gradcheck": "tests/test_gradcheck.py",
    "ops": "tests/ops tests/kernels/test_backends.py tests/test_autograd.py",
    "nn": "tests/nn tests/models",
    "models/word2vec": "tests/models/test_word2vec.py",
    "models/unet2015": "tests/models/test_unet2015.py tests/segmentation/test_tiles.py",
    "models": "tests/models tests/nn",
    "replay": "tests/kernels/test_record.py tests/training/test_replay.py",
    "diffusion": "tests/diffusion",
    "training/presets": "tests/training/test_presets.py",
    "training": "tests/training tests/apps/train",
    "datasets": "tests/datasets tests/training/test_presets.py",
    "pipelines": "tests/pipelines tests/cli/test_cli_editing.py tests/cli/test_cli.py",
    "kernels/cpu/cache": "tests/kernels/test_cache.py",
    "kernels/cpu/attention": "tests/kernels/test_cpu.py tests/kernels/test_jit.py -k attention",
    "kernels/cpu/norm": "tests/kernels/test_cpu.py -k norm",
    "kernels/cpu/optim": "tests/training/test_optim.py tests/kernels/test_cpu.py -k 'adamw or optim or square'",
    "kernels/cpu/winograd": "tests/kernels/test_winograd.py",
    "kernels/cpu/kn2row": "tests/kernels/test_kn2row.py",
    "kernels/cpu/im2col": "tests/kernels/test_rungs.py",
    "kernels/cpu/micro_kernel": "tests/kernels/test_micro_kernel.py",
    "kernels/cpu/record": "tests/kernels/test_record.py",
    "kernels/cpu/rooms": "tests/kernels/test_record.py",
    "kernels/cpu/conv": "tests/kernels/test_kernels.py tests/kernels/test_cpu.py tests/kernels/test_winograd.py",
    "kernels/cpu": "tests/kernels/test_kernels.py tests/kernels/test_cpu.py",
    "kernels/cuda": "tests/cuda/test_kernels.py",
    "kernels/memory": "tests/kernels/test_record.py tests/kernels/test_winograd.py",
    "kernels/recording": "tests/kernels/test_record.py",
    "kernels/reference": "tests/kernels/test_kernels.py tests/ops/test_ops.py",
    "kernels": "tests/kernels/test_backends.py tests/kernels/test_cpu.py tests/ops/test_ops.py",
    "segmentation/presets": "tests/training/test_presets.py",
    "segmentation/metrics": "tests/evaluation/test_metrics.py",
    "segmentation": "tests/segmentation",
    "evaluation/metrics": "tests/evaluation/test_metrics.py",
}

# What no test could see: (file, a piece of the line, the change) → why.
MORE_TASKS = "more tasks, of which the last ones have nothing to do"
EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("kernels/cpu/pointwise.py", "(x.size + CHUNK - 1) // CHUNK", "FloorDiv → Mult"): MORE_TASKS,
    ("kernels/cpu/conv.py", "prange(len(phases) *", "Sub → Add"): MORE_TASKS,
    ("kernels/cpu/conv.py", "filters, longest = y.shape[3]", "Sub → Add"): MORE_TASKS,
    ("kernels/cpu/winograd.py", "tiles = y.shape[0] *", "FloorDiv → Mult"): "whether two threads share the work",
    ("kernels/cpu/kn2row.py", "channels > filters", "Gt → GtE"): "which of two right kernels is the faster",
    ("kernels/cpu/data_movement.py", "parts = (positions + rows - 1) // rows", "Sub → Add"): MORE_TASKS,
    ("kernels/cpu/conv.py", "longest = y.shape[3]", "FloorDiv → Mult"): MORE_TASKS,
    ("kernels/cpu/winograd.py", "tiles = Tiles((y.shape[1]", "FloorDiv → Mult"): "more tiles, which lie outside",
    ("kernels/cpu/conv.py", "if channels <= SHORT", "LtE → Lt"): "which of two right ways is the faster",
    ("kernels/cpu/gemm.py", "panels[p, tap * filters + k, j]", "Add → Sub"): "columns that are filled up are not read",
    ("kernels/cpu/attention.py", "min(WIDTH, count - begin)", "Sub → Add"): "columns that are filled up are not read",
    ("kernels/cpu/vectors.py", "types.void(*[types.intp] * 4)", "4 → 5"): "Numba looks at the arguments that there are",
    ("kernels/cpu/arrays.py", "malloc.h", "3 → 4"): "what the C library keeps of freed memory",
    ("kernels/cpu/data_movement.py", "set(b.shape[1:-1]) == {1}", "USub dropped"): "NumPy adds instead, the same",
    ("kernels/cpu/optim.py", "CHUNK = 1 << 14", "14 → 15"): "how much a task works on",
    ("kernels/cpu/data_movement.py", "LONGEST = 1 << 11", "11 → 12"): "how much a task works on",
    ("kernels/cpu/winograd.py", "CACHE, SLAB =", "3 → 4"): "how much a task works on",
    ("kernels/cpu/winograd.py", "fit = CACHE //", "Mult → Div"): "how much a task works on",
    ("kernels/cpu/arrays.py", "if found.size < count:", "Lt → LtE"): "a larger array of zeros than is needed",
    ("diffusion/samplers.py", "ddim_step(replace(s, end=1.0)", "1.0 → 2.0"): "the smaller of it and ᾱ ≤ 1 counts",
    ("kernels/cpu/winograd.py", "for i in range(8 * chunk", "8 → 9"): "a tile that two tasks transform, to the same",
    ("kernels/cpu/data_movement.py", "set(b.shape[1:-1]) == {1}", "1 → 2"): "NumPy adds instead, the same",
    ("kernels/cpu/indirection.py", "buffer = np.zeros(", "FloorDiv → Mult"): "a larger buffer, whose end is not used",
    ("kernels/cpu/micro_kernel.py", "ENTRY = ROWS + 1", "1 → 2"): "a larger buffer, whose end is not used",
    ("kernels/cpu/data_movement.py", "range(min(LANES, rows - i))", "Sub → Add"): "a task has no more rows than LANES",
    ("kernels/cpu/winograd.py", "parts = (channels + 15) // 16", "FloorDiv → Mult"): MORE_TASKS,
    ("kernels/cpu/conv.py", "kernel_w > 1):", "1 → 2"): "which of two right kernels is the faster",
    ("pipelines/text_to_image.py", "self.latent_shape[0] *", "0 → 1"): "latents are square",
    ("training/loop.py", "self._epoch, self._order = -1", "1 → 2"): "no epoch has either number",
    ("kernels/cpu/conv.py", "BLOCK = 4 * ROWS", "Mult → Div"): "how much a task works on",
    ("kernels/cpu/data_movement.py", "CHUNK = 1 << 14", "14 → 15"): "how much a task works on",
    ("kernels/cpu/winograd.py", "room = min(tiles", "FloorDiv → Mult"): "how much a task works on",
    ("kernels/cpu/kn2row.py", "band = max(1, CACHE", "FloorDiv → Mult"): "how much a task works on",
    (
        "kernels/cpu/norm.py",
        "for c in range(g * width",
        "1 → 2",
    ): "beyond an array's end, which the run with bounds sees",
    ("models/autoencoder.py", "padding=(0, 1, 0, 1)", "1 → 2"): "a column of zeros that stride 2 leaves out",
    ("segmentation/training.py", "flush=True", "True → False"): "when a message is seen",
}

SWAPPED: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclass(frozen=True)
class Mutant:
    path: str  # below tinydiff/
    number: int  # of the file's mutants
    line: int
    text: str  # the line
    change: str
    source: str  # of the whole file

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.change}: {self.text}"

    @property
    def equivalent(self) -> str | None:
        found = [why for (path, text, change), why in EQUIVALENT.items() if self._is(path, text, change)]
        return found[0] if found else None

    def _is(self, path: str, text: str, change: str) -> bool:
        return self.path == path and text in self.text and change == self.change


def mutants(path: Path) -> Iterator[Mutant]:
    """Every mutant of a file."""
    source = path.read_text(encoding="utf-8")
    lines, name = source.splitlines(), path.relative_to(ROOT / "tinydiff").as_posix()
    tree = ast.parse(source)
    places = list(changeable(tree))
    for number, (kind, address) in enumerate(places):
        changed = copy.deepcopy(tree)
        node, change = changed_at(changed, kind, address)
        text = lines[node.lineno - 1].strip()
        yield Mutant(name, number, node.lineno, text, change, ast.unparse(ast.fix_missing_locations(changed)))


def changeable(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(what kind of change, the node's number in ast.walk) for each change that there is."""
    nodes = list(ast.walk(tree))
    left_out = {id(inner) for node in nodes for part in without_numbers(node) for inner in ast.walk(part)}
    for address, node in enumerate(nodes):
        if id(node) in left_out:
            continue
        if isinstance(node, (ast.BinOp, ast.AugAssign, ast.BoolOp)) and type(node.op) in SWAPPED:
            yield "operator", address
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            yield "comparison", address
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
            yield "sign", address
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            yield "number", address
        if isinstance(node, (ast.AugAssign, ast.Raise)) or (isinstance(node, ast.Expr) and is_call(node.value)):
            yield "statement", address


def without_numbers(node: ast.AST) -> list[ast.AST]:
    """The parts of a node whose change changes nothing: messages, annotations, imports; zip's `strict`, where it holds,
    and the −1 of `reshape`, for which any negative number would do.
    """
    if isinstance(node, ast.Call):
        shape = node.args if isinstance(node.func, ast.Attribute) and node.func.attr == "reshape" else []
        return [
            *(k.value for k in node.keywords if k.arg == "strict"),
            *(a for a in shape if isinstance(a, ast.UnaryOp)),
        ]
    if isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom)):
        return [node]
    if isinstance(node, ast.AnnAssign):
        return [node.annotation]
    if isinstance(node, ast.arg):
        return [node.annotation] if node.annotation else []
    if isinstance(node, ast.ClassDef):
        return list(node.decorator_list)
    if isinstance(node, ast.FunctionDef):
        return [*node.decorator_list, *([node.returns] if node.returns else [])]
    return []


def is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call)


def changed_at(tree: ast.Module, kind: str, address: int) -> tuple[ast.AST, str]:
    """Change one node of the tree in place: (the node, what was changed)."""
    node = list(ast.walk(tree))[address]
    if kind == "operator":
        before, node.op = type(node.op), SWAPPED[type(node.op)]()
        return node, f"{before.__name__} → {type(node.op).__name__}"
    if kind == "comparison":
        before, node.ops = type(node.ops[0]), [SWAPPED[type(node.ops[0])]()]
        return node, f"{before.__name__} → {type(node.ops[0]).__name__}"
    if kind == "sign":
        what = type(node.op).__name__
        replace(tree, node, node.operand)
        return node, f"{what} dropped"
    if kind == "number":
        before = node.value
        node.value = (not before) if isinstance(before, bool) else before + 1 if isinstance(before, int) else 2 * before
        if before == 0 and isinstance(before, float):
            node.value = 1.0
        return node, f"{before!r} → {node.value!r}"
    replace(tree, node, ast.Pass())
    return node, "dropped"


def replace(tree: ast.Module, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
            elif isinstance(value, list) and any(item is old for item in value):
                value[next(i for i, item in enumerate(value) if item is old)] = new


def tests_of(path: str) -> str:
    return next(tests for part, tests in TESTS.items() if path.startswith(part))


def numerics() -> list[Path]:
    """All files that compute."""
    every = (ROOT / "tinydiff").rglob("*.py")
    named = {path.relative_to(ROOT / "tinydiff").as_posix(): path for path in every if path.name != "__init__.py"}
    return [path for name, path in sorted(named.items()) if any(name.startswith(part) for part in TESTS)]


class Sandbox:
    """A copy of the project in which one file at a time is changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            copied, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(copied, target) if copied.is_dir() else shutil.copy(copied, target)
        # What was compiled of a mutant must not be found by the next one, which could have the same size and second.
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, path: str, limit: float | None = None, cache: str = "") -> bool:
        """Whether the tests of that file pass; cache: another folder than the usual one for compiled kernels."""
        environment = self.environment | ({"NUMBA_ENABLE_CUDASIM": "1"} if path.startswith("kernels/cuda") else {})
        environment |= {"NUMBA_CACHE_DIR": cache} if cache else {}
        command = f"exec {sys.executable} -m pytest -x -q -p no:cacheprovider {tests_of(path)}"
        if limit is not None:  # of processor time; the clock's is for what waits for ever
            command = f"ulimit -t {int(limit)}; {command}"
        waiting = None if limit is None else 20 * limit
        try:
            done = subprocess.run(
                command, shell=True, cwd=self.folder, env=environment, capture_output=True, timeout=waiting
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def lives(self, mutant: Mutant, limit: float) -> bool:
        target = self.folder / "tinydiff" / mutant.path
        original = target.read_text(encoding="utf-8")
        try:
            target.write_text(mutant.source, encoding="utf-8")
            return self.run(mutant.path, limit)
        finally:
            target.write_text(original, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=300, help="how many mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: %(default)s)")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the sample's first one to be run")
    parser.add_argument("--only", default="", help="the beginning of a path below tinydiff/")
    parser.add_argument(
        "--leave-out", default="kernels/cuda", help="the same, not to be changed (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="mutants at once (default: %(default)s)")
    parser.add_argument("--show", action="store_true", help="list the sample and run nothing")
    args = parser.parse_args()

    every = [mutant for path in numerics() for mutant in mutants(path)]
    every = [m for m in every if m.path.startswith(args.only) and not m.path.startswith(args.leave_out or "/")]
    chosen = random.Random(args.seed).sample(every, min(args.sample, len(every)))
    print(f"{len(chosen)} of {len(every)} mutants, seed {args.seed}", flush=True)
    chosen = chosen[args.first - 1 :]
    if args.show:
        print(*chosen, sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        free: Queue[Sandbox] = Queue()
        for number in range(args.jobs):
            free.put(Sandbox(Path(folder) / str(number)))
        limits = unchanged(free, {tests_of(m.path): m.path for m in chosen})

        def verdict(mutant: Mutant) -> bool:
            sandbox = free.get()
            try:
                return sandbox.lives(mutant, limits[tests_of(mutant.path)])
            finally:
                free.put(sandbox)

        alive = []
        with ThreadPoolExecutor(args.jobs) as pool:
            for number, (mutant, lives) in enumerate(zip(chosen, pool.map(verdict, chosen), strict=True), args.first):
                if lives:
                    alive.append(mutant)
                print(f"{number} {'LIVES ' if lives else 'killed'} {mutant}", flush=True)
    equivalent = [m for m in alive if m.equivalent]
    living = [m for m in alive if not m.equivalent]
    share = 1 - len(living) / max(1, len(chosen) - len(equivalent))
    print(f"\n{share:.1%} of those that are not equivalent were killed; {len(equivalent)} equivalent, living:")
    print(*living, sep="\n")
    return 0 if share >= 0.96 else 1


def processor_time() -> float:
    """Seconds that this process's children have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def unchanged(free: Queue[Sandbox], tests: dict[str, str]) -> dict[str, float]:
    """The time limit of each set of tests, which must pass without a mutant."""
    sandbox, limits = free.get(), {}
    for name, path in tests.items():
        compiled = path.startswith("kernels/cpu")
        with tempfile.TemporaryDirectory() as folder:
            if not compiled:
                sandbox.run(path)  # so that nothing is compiled when the time counts
            before = processor_time()
            if not sandbox.run(path, cache=folder if compiled else ""):
                raise SystemExit(f"without a mutant these fail already: {name}")
        limits[name] = 30 + (2 if compiled else 5) * (processor_time() - before)
        print(f"{limits[name]:.0f} s for {name}", flush=True)
    free.put(sandbox)
    return limits


if __name__ == "__main__":
    raise SystemExit(main())
