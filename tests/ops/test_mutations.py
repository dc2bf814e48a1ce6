"""Would the gradient checks notice?  Every sign, factor, axis and index of every backward is changed once, by itself.

A mutant is caught where some case of `test_ops.CASES` finds its gradient wrong, or where it does not run at all.  Those
that are not caught are listed: they either change nothing, and say so below, or the cases are too weak.
"""

import ast
import importlib
import importlib.util
import types
from pathlib import Path

import numpy as np

from tinydiff import kernels
from tinydiff.gradcheck import op_errors

MODULES = [f"tinydiff.ops.{path.stem}" for path in sorted(Path(kernels.__file__).parents[1].glob("ops/[a-z]*.py"))]
SHARE = 0.98  # of the mutants have to be caught
TOLERANCE = 1e-6

spec = importlib.util.spec_from_file_location("cases_of_ops", Path(__file__).with_name("test_ops.py"))
cases_of_ops = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases_of_ops)
CASES = cases_of_ops.CASES

SWAPPED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
}


# What changes nothing, or nothing that float64 runs: (op, a piece of the line, the change).
EQUIVALENT = {
    ("l1_loss", "sign(difference)", "Mult → Div"): "a sign is 1 or −1",
    ("concat", "split(dy, cut)", "first two arguments swapped"): "the compiled kernel, tested in tests/kernels",
}


def backwards(tree):
    """The functions and lambdas within functions: what carries a gradient back, with what it calls.

    Those in a branch, `if fast is not None`, are the compiled kernels', which tests/kernels compares.
    """
    for op in tree.body:
        if isinstance(op, ast.FunctionDef):
            branches = [branch for branch in ast.walk(op) if isinstance(branch, ast.If)]
            compiled = {id(inner) for branch in branches for inner in ast.walk(branch)}
            for inner in ast.walk(op):
                if isinstance(inner, (ast.FunctionDef, ast.Lambda)) and inner is not op and id(inner) not in compiled:
                    yield op.name, inner


def same_axis(function):
    """Constants whose negative means the same: an axis of swapaxes or transpose, an index of a shape, −1 in reshape."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("swapaxes", "transpose", "reshape"):
            found |= {id(inner) for argument in node.args for inner in ast.walk(argument)}
        if isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") == "shape":
            found |= {id(inner) for inner in ast.walk(node.slice)}
    return found


def in_reshape(function):
    """The 1 of −1 in a reshape: NumPy takes any negative number for the one that it works out."""
    return {
        id(argument.operand)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "reshape"
        for argument in node.args
        if isinstance(argument, ast.UnaryOp)
    }


def changes(node):
    """Ways to change one node of the tree: (what is done, the function that does it, the function that undoes it)."""

    def setting(name, value, what):
        before = getattr(node, name)
        return what, lambda: setattr(node, name, value), lambda: setattr(node, name, before)

    if isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
        other = SWAPPED[type(node.op)]
        yield setting("op", other(), f"{type(node.op).__name__} → {other.__name__}")
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
        other = SWAPPED[type(node.ops[0])]
        yield setting("ops", [other()], f"{type(node.ops[0]).__name__} → {other.__name__}")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield setting("op", ast.UAdd(), "− → +")
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield setting("value", not node.value, f"{node.value} → {not node.value}")
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield setting("value", node.value + 1, f"{node.value} → {node.value + 1}")
        if node.value:
            yield setting("value", -node.value, f"{node.value} → {-node.value}")
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield setting("attr", "real", ".T left out")
    symmetric = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "swapaxes"
    if isinstance(node, ast.Call) and len(node.args) >= 2 and not symmetric:
        yield setting("args", [node.args[1], node.args[0], *node.args[2:]], "first two arguments swapped")
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if isinstance(keyword.value, ast.Name):
                name = ast.Constant(0)
                before = keyword.value
                yield (
                    f"{keyword.arg} = 0",
                    lambda keyword=keyword, name=name: setattr(keyword, "value", name),
                    lambda keyword=keyword, before=before: setattr(keyword, "value", before),
                )
    field = {ast.Return: "value", ast.Lambda: "body"}.get(type(node), "")
    elements = getattr(getattr(node, field, None), "elts", [])
    if len(elements) >= 2:
        turned = ast.Tuple([elements[1], elements[0], *elements[2:]], ast.Load())
        yield setting(field, turned, "first two gradients swapped")


def caught(name, tree):
    """Whether some case of the op `name` finds the gradient of this mutant wrong."""
    module = types.ModuleType("mutant")
    module.__package__ = "tinydiff.ops"
    module.__name__ = f"tinydiff.ops.{name}_mutant"
    ast.fix_missing_locations(tree)
    try:
        exec(compile(tree, "mutant", "exec"), vars(module))
        for arrays, options in CASES[name]:
            for backend in ("numpy", "reference"):
                with kernels.use(backend), np.errstate(all="ignore"):
                    errors = op_errors(getattr(module, name), *arrays, **options)
                    asked = cases_of_ops.wrong_where_asked_alone(getattr(module, name), arrays, options)
                if asked or not max(errors, default=0) < TOLERANCE:  # NaN is caught, too
                    return True
    except Exception:
        return True
    return False


def mutants(module):
    """(op, line, what is changed, caught?) for each change of each backward in a module."""
    source = Path(importlib.import_module(module).__file__).read_text()
    tree, lines = ast.parse(source), source.splitlines()
    for name, function in backwards(tree):
        if name not in CASES:
            continue
        axes, ones = same_axis(function), in_reshape(function)
        for node in ast.walk(function):
            for what, do, undo in list(changes(node)):
                line = lines[getattr(node, "lineno", 1) - 1].strip()
                negative = isinstance(node, ast.Constant) and what.endswith(f"→ -{node.value}") and id(node) in axes
                listed = any(name == op and piece in line and what == w for op, piece, w in EQUIVALENT)
                if negative or id(node) in ones or listed:
                    continue
                do()
                found = caught(name, tree)
                undo()
                yield name, line, what, found


def test_unchanged_ops_are_not_caught():
    for module in MODULES:
        tree = ast.parse(Path(importlib.import_module(module).__file__).read_text())
        for name in {name for name, _ in backwards(tree)} & set(CASES):
            assert not caught(name, tree), name


def test_the_gradient_checks_catch_changed_formulas():
    found = [mutant for module in MODULES for mutant in mutants(module)]
    alive = [f"{name}: {what} in {line}" for name, line, what, dead in found if not dead]
    print(f"{len(found) - len(alive)} of {len(found)} mutants caught", *alive, sep="\n  ")  # with pytest -s
    assert len(found) > 150
    assert len(alive) <= (1 - SHARE) * len(found), alive
