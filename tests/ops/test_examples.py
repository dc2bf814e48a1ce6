"""The examples in docstrings are run, and every op, layer and model has one."""

import doctest
import inspect

import numpy as np
import pytest

from tinydiff import autograd, gradcheck, models, nn, ops
from tinydiff.models import word2vec
from tinydiff.nn import layers

ALL = {f"ops.{name}": getattr(ops, name) for name in ops.__all__}
for module in (layers, models, word2vec):
    for name, value in inspect.getmembers(module, inspect.isclass):
        if value.__module__.startswith("tinydiff.") and issubclass(value, nn.Module) and value is not models.PixelSpace:
            ALL[f"{module.__name__}.{name}"] = value
NAMES = {"np": np, "ops": ops, "nn": nn, "models": models, "Tensor": autograd.Tensor}


@pytest.mark.parametrize("name", ALL)
def test_it_has_an_example(name):
    assert ">>> " in ALL[name].__doc__


@pytest.mark.parametrize("module", [autograd, gradcheck, word2vec, nn.module, layers, nn.blocks, models, ops])
def test_the_examples_are_right(module):
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report, count = [], 0
    for name, value in vars(module).items():
        if getattr(value, "__module__", "").startswith("tinydiff.") and callable(value):
            for example in finder.find(value, name, module=False, globs={**vars(module), **NAMES}):
                count += runner.run(example, out=report.append).attempted
    assert count and not report, "".join(report)
