"""The examples in docstrings are run; where a learner would not guess the call, there is one."""

import doctest

import numpy as np
import pytest

from tinydiff import autograd, gradcheck, models, nn, ops
from tinydiff.models import word2vec

NAMES = {"np": np, "ops": ops, "nn": nn, "models": models, "Tensor": autograd.Tensor}


@pytest.mark.parametrize(
    "thing",
    [ops.conv2d, ops.attention, ops.group_norm, autograd.Tensor, autograd.no_grad, nn.Module, gradcheck.op_errors],
)
def test_it_has_an_example(thing):
    assert ">>> " in thing.__doc__


@pytest.mark.parametrize("module", [autograd, gradcheck, word2vec, nn.module, nn.layers, nn.blocks, models, ops])
def test_the_examples_are_right(module):
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report = []
    for name, value in vars(module).items():
        if getattr(value, "__module__", "").startswith("tinydiff.") and callable(value):
            for example in finder.find(value, name, module=False, globs={**vars(module), **NAMES}):
                runner.run(example, out=report.append)
    assert not report, "".join(report)
