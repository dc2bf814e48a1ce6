"""A stand-in for CuPy without a GPU: arrays that NumPy may not touch.

CuPy's arrays raise where NumPy would convert them in silence; the stand-in's also raise where CuPy would hand a NumPy
function on to its own, so that whatever passes here calls the array's own module everywhere.
"""

import types

import numpy as np

from tinydiff.kernels.cuda import launch as launching


class Card:
    """An array "on the GPU": NumPy's inside, which only this file takes out."""

    __array_ufunc__ = None

    def __init__(self, inside):
        self.inside = np.asarray(inside)

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion of a device array to NumPy's")

    def __array_function__(self, function, *args):
        raise TypeError(f"numpy.{function.__name__} was called with a device array")

    shape = property(lambda self: self.inside.shape)
    dtype = property(lambda self: self.inside.dtype)
    ndim = property(lambda self: self.inside.ndim)
    size = property(lambda self: self.inside.size)
    strides = property(lambda self: self.inside.strides)
    itemsize = property(lambda self: self.inside.itemsize)
    T = property(lambda self: Card(self.inside.T))

    def item(self):
        return self.inside.item()

    def __len__(self):
        return len(self.inside)

    def __float__(self):
        return float(self.inside)

    def __bool__(self):
        return bool(self.inside)

    def __setitem__(self, key, value):
        self.inside[_out(key)] = _out(value)


def _out(value):
    """NumPy's array inside; tuples too.  NumPy's own arrays are refused, as CuPy refuses them."""
    if isinstance(value, tuple):
        return tuple(_out(v) for v in value)
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type numpy.ndarray: it does not live on the GPU")
    return value.inside if isinstance(value, Card) else value


def _in(value):
    """What came back: arrays are on the GPU, and so are NumPy's scalars."""
    return Card(value) if isinstance(value, (np.ndarray, np.generic)) else value


def _method(name):
    def method(self, *args, **kwargs):
        kwargs = {key: _out(value) for key, value in kwargs.items()}
        return _in(getattr(self.inside, name)(*_out(args), **kwargs))

    return method


def _operator(name):
    def operator(self, *others):
        if any(hasattr(other, "requires_grad") for other in others):
            return NotImplemented  # a Tensor: it knows better
        return _in(getattr(self.inside, name)(*_out(others)))

    return operator


def _in_place(name):
    def operator(self, other):
        self.inside = getattr(self.inside, name)(_out(other))
        return self

    return operator


for _name in (
    *("reshape", "sum", "mean", "var", "max", "min", "astype", "transpose", "swapaxes", "copy", "clip", "argmax"),
    *("ravel", "repeat"),
):
    setattr(Card, _name, _method(_name))
for (
    _name
) in "add radd sub rsub mul rmul truediv rtruediv floordiv matmul pow neg abs gt ge lt le eq ne getitem".split():
    setattr(Card, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("iadd", "isub", "imul", "itruediv"):
    setattr(Card, f"__{_name}__", _in_place(f"__{_name}__"))
Card.__hash__ = object.__hash__


def cupy():
    """The module that stands for CuPy."""
    module = types.ModuleType("cupy")
    module.ndarray, module.asnumpy = Card, lambda a: a.inside.copy()

    def asarray(a, dtype=None):
        return Card(np.array(a.inside if isinstance(a, Card) else a, dtype))

    module.asarray = module.array = asarray
    for name in (
        "empty zeros ones_like arange exp cos sin tanh log sqrt sign maximum isfinite where concatenate stack "
        "ascontiguousarray broadcast_to take_along_axis ones pad moveaxis"
    ).split():
        setattr(module, name, _function(getattr(np, name)))
    module.indices = lambda shape: tuple(Card(a) for a in np.indices(shape))
    module.add = types.SimpleNamespace(at=lambda a, i, b: np.add.at(a.inside, _out(i), _out(b)))
    return module


def cupyx_erf():
    """cupyx.scipy.special, with the one function that is used."""
    from scipy.special import erf

    module = types.ModuleType("cupyx.scipy.special")
    module.erf = _function(erf)
    return module


def _function(function):
    def call(*args, **kwargs):
        args = [[_out(a) for a in arg] if isinstance(arg, list) else _out(arg) for arg in args]
        return _in(function(*args, **kwargs))

    return call


def launch(kernel, grid, threads, *arguments):
    """Kernels run in the simulator, on what is inside."""
    launching_launch(kernel, grid, threads, *(_out(a) for a in arguments))


launching_launch = launching.launch
