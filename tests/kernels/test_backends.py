"""The choice of backend: as a call, as a block, and each way in which it can go wrong."""

import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest

from tinydiff import kernels, ops
from tinydiff.errors import InputError
from tinydiff.kernels import BACKENDS, FASTER, MANDATORY, backend_of, find_kernel, kernel, selection, use

FLOAT32, FLOAT64 = np.zeros(1, np.float32), np.zeros(1)


@pytest.fixture(autouse=True)
def default_afterwards():
    yield
    use(None)


def test_the_default_is_where_the_array_lives():
    assert backend_of(FLOAT32) == "cpu"
    assert backend_of(FLOAT64) == backend_of(np.zeros(1, np.float16)) == "numpy"


def test_as_a_call():
    use("reference")
    assert backend_of(FLOAT32) == backend_of(FLOAT64) == "reference"
    use("numpy")
    assert backend_of(FLOAT32) == "numpy"
    use(None)
    assert backend_of(FLOAT32) == "cpu"


def test_as_nested_blocks():
    with use("reference"):
        with use("numpy"):
            with use(None):
                assert backend_of(FLOAT32) == "cpu"
            assert backend_of(FLOAT32) == "numpy"
        assert backend_of(FLOAT32) == "reference"
    assert backend_of(FLOAT32) == "cpu"


def test_a_block_in_a_call():
    use("reference")
    with use("numpy"):
        pass
    assert backend_of(FLOAT32) == "reference"


def test_an_exception_restores_it():
    with pytest.raises(ZeroDivisionError), use("reference"):
        raise ZeroDivisionError
    assert backend_of(FLOAT32) == "cpu"


def test_an_unknown_name_is_refused_and_changes_nothing():
    use("numpy")
    with pytest.raises(InputError, match="no backend 'gpu'.*'reference', 'numpy', 'cpu'"):
        use("gpu")
    assert backend_of(FLOAT32) == "numpy"


def test_a_backend_that_is_not_there_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(BACKENDS, "cpu", "tinydiff.kernels.no_such_module")
    selection.module_of.cache_clear()
    with pytest.raises(InputError, match="'cpu' is not available.*no_such_module is missing") as caught:
        use("cpu")
    assert "\n" not in str(caught.value) and caught.value.__suppress_context__
    assert backend_of(FLOAT32) == "cpu"


def test_float64_on_the_compiled_backend_names_the_way_out():
    x, w = np.ones((1, 3, 3, 1)), np.ones((1, 1, 1, 1))
    vectors = np.ones((1, 2, 4))
    with use("cpu"):
        for call in (
            lambda: ops.conv2d.forward(x, w),
            lambda: ops.max_pool2d.forward(x, size=3),
            lambda: ops.upsample_nearest.forward(x),
            lambda: ops.linear.forward(x, w[0, 0]),
            lambda: ops.group_norm.forward(x, np.ones(1), np.ones(1), groups=1),
            lambda: ops.attention.forward(vectors, vectors, vectors),
            lambda: ops.geglu.forward(vectors),
            lambda: ops.gelu.forward(vectors),
            lambda: ops.concat.forward(vectors, vectors),
        ):
            with pytest.raises(TypeError, match=r'float32, not float64; use\("numpy"\)'):
                call()


@pytest.mark.parametrize("name", MANDATORY)
def test_a_missing_mandatory_kernel_is_named(monkeypatch, name):
    from tinydiff.kernels import cpu

    monkeypatch.delattr(cpu, name)
    with pytest.raises(LookupError, match=f"'cpu' has no kernel '{name}'"):
        kernel(name, FLOAT32)
    with pytest.raises(LookupError, match=f"'cpu' has no kernel '{name}'"):
        getattr(kernels, name)(FLOAT32, FLOAT32)


def test_the_face_has_the_kernels_and_nothing_else():
    x = np.ones((1, 2, 2, 1))
    assert kernels.upsample_nearest_forward(x).shape == (1, 4, 4, 1)
    with pytest.raises(AttributeError, match="'tinydiff.kernels' has no attribute 'conv3d_forward'"):
        _ = kernels.conv3d_forward


@pytest.mark.parametrize("name", [*MANDATORY, *FASTER])
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_has_every_kernel_with_one_signature(backend, name):
    """The mandatory ones are held against the definition, the others against the compiled backend, which has all.

    Only a GPU records updates.
    """
    try:
        found = getattr(importlib.import_module(BACKENDS[backend]), name, None)
    except ModuleNotFoundError:
        pytest.skip(f"no backend {backend} here")
    if found is None:
        assert name in FASTER and (backend != "cpu" or name == "record_update")
    else:
        first = importlib.import_module(BACKENDS["reference" if name in MANDATORY else "cpu"])
        assert signature(found) == signature(getattr(first, name.replace("_update", "_step")))


def signature(function):
    """Names, kinds and defaults; the types of arrays differ."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_a_kernel_that_no_backend_may_do_without_is_not_looked_for():
    for name in ("conv2d_forward", "no_such_kernel"):
        with pytest.raises(LookupError, match=f"'{name}' is not one of"):
            find_kernel(name, FLOAT32)


def test_the_backends_stand_below_the_face():
    """Neither kernels.cpu nor kernels.cuda imports the face; the definition and NumPy's form import nothing."""
    for path in sorted(Path(kernels.__file__).parent.rglob("*.py")):
        source = path.read_text()
        if path.parent.name in ("cpu", "cuda"):
            assert "from tinydiff.kernels import" not in source, path
        if path.name in ("reference.py", "numpy_backend.py"):
            assert "tinydiff" not in source.replace("tinydiff.kernels.reference", ""), path


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_matmul_on_every_backend(backend, transpose_a, transpose_b):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5, 3) if transpose_a else (3, 5)).astype(np.float32)
    b = rng.standard_normal((4, 5) if transpose_b else (5, 4)).astype(np.float32)
    expected = (a.T if transpose_a else a).astype(np.float64) @ (b.T if transpose_b else b)
    bias = rng.standard_normal(4).astype(np.float32)
    np.testing.assert_allclose(kernels.matmul(a, b, transpose_a, transpose_b), expected, rtol=1e-5, atol=1e-5)
    if not transpose_a and not transpose_b:
        np.testing.assert_allclose(kernels.matmul(a, b, bias=bias), expected + bias, rtol=1e-5, atol=1e-5)


def test_add_and_sum_rows_on_every_backend(backend):
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(kernels.add(x, x[:1, 0]), x + x[:1, 0])
    np.testing.assert_array_equal(kernels.add(1.0, x), x + 1)
    np.testing.assert_allclose(kernels.sum_rows(x), x.astype(np.float64).sum((0, 1)), rtol=1e-5)
