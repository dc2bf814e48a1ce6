"""ONNX's own node tests: each case that an op of ours can express gives the listed numbers."""

import warnings
from collections import Counter

import numpy as np
import pytest

from tinydiff import kernels, ops
from tinydiff.autograd import Tensor

onnx = pytest.importorskip("onnx")

FLOATS = (np.float32, np.float64)


def last(x):
    """(N, C, …) → (N, …, C)."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def first(x):
    return np.moveaxis(x, -1, 1)


def only(attributes, *names):
    """Whether a case uses no other attribute than these."""
    return set(attributes) <= set(names)


def one(numbers):
    """The number that stands in both places; None for two different ones."""
    return numbers[0] if len(set(numbers)) == 1 else None


def conv(x, w, b=None, *, pads=(0, 0, 0, 0), strides=(1, 1), dilations=(1, 1), group=1, kernel_shape=None):
    if x.ndim != 4 or one(strides) is None or one(dilations) is None:
        return None
    sides = (pads[0], pads[2], pads[1], pads[3])
    options = dict(stride=one(strides), padding=sides, dilation=one(dilations), groups=group)
    return first(ops.conv2d.forward(last(x), w.transpose(2, 3, 1, 0), b, **options)[0])


def conv_transpose(x, w, b=None, *, strides=(1, 1), kernel_shape=None):
    if x.ndim != 4 or one(strides) is None:
        return None
    return first(ops.conv_transpose2d.forward(last(x), w.transpose(2, 3, 1, 0), b, stride=one(strides))[0])


def pool(op):
    def pooled(x, *, kernel_shape, strides=(1, 1), pads=(0, 0, 0, 0), count_include_pad=0, storage_order=0):
        fits = x.ndim == 4 and x.dtype in FLOATS and one(kernel_shape) and one(strides) and one(pads) is not None
        if not fits or (op is ops.avg_pool2d and one(pads) and not count_include_pad):
            return None
        return first(op.forward(last(x), size=one(kernel_shape), stride=one(strides), padding=one(pads))[0])

    return pooled


def resize(x, *numbers, mode=b"nearest", coordinate_transformation_mode=b"half_pixel"):
    if len(numbers) != 1 or x.ndim != 4 or numbers[0].shape != (4,):
        return None
    whole = numbers[0].dtype.kind == "i"
    sides = numbers[0][2:] if whole else np.floor(np.array(x.shape[2:]) * numbers[0][2:])
    known = coordinate_transformation_mode in (b"half_pixel", b"align_corners")
    exact = whole or (sides == np.array(x.shape[2:]) * numbers[0][2:]).all()  # else the factor counts, not the sides
    if mode == b"linear" and known and exact:
        options = dict(size=tuple(map(int, sides)), align_corners=coordinate_transformation_mode == b"align_corners")
        return first(ops.upsample_bilinear.forward(last(x), **options)[0])
    twice = mode == b"nearest" and tuple(sides) == (2 * x.shape[2], 2 * x.shape[3])
    return first(ops.upsample_nearest.forward(last(x))[0]) if twice else None


def batch_norm(x, scale, shift, mean, variance, *, epsilon=1e-5, training_mode=0):
    options = dict(running=(mean, variance), training=bool(training_mode), eps=epsilon)
    return first(ops.batch_norm.forward(last(x), scale, shift, **options)[0])


def group_norm(x, scale, shift, *, num_groups, epsilon=1e-5):
    return first(ops.group_norm.forward(last(x), scale, shift, groups=num_groups, eps=epsilon)[0])


def last_axis(op):
    def normed(x, scale, *shift, axis=-1, epsilon=1e-5):
        return op.forward(x, scale, *shift, eps=epsilon)[0] if axis in (-1, x.ndim - 1) else None

    return normed


def dropout(x, p=None, training=None, *, ratio=0.5, seed=0):
    if training is not None and training and (p is None or p > 0):
        return None  # theirs are other random numbers
    return ops.dropout.forward(x, rng=np.random.default_rng(0), p=0.0, training=training is not None)[0]


def cross_entropy(logits, labels, class_weights=None, *, reduction=b"mean", ignore_index=None):
    if reduction != b"mean":
        return None
    options = dict(class_weights=class_weights, ignore_index=ignore_index)
    return ops.cross_entropy_loss.forward(last(logits), labels, **options)[0]


def attention(q, k, v, mask=None, *, is_causal=0, q_num_heads=None, kv_num_heads=None):
    heads = q.shape[1] if q.ndim == 4 else q_num_heads
    same = k.shape[1] == heads if q.ndim == 4 else kv_num_heads == heads
    if not same or q.dtype not in FLOATS or q.shape[-1] != v.shape[-1] or k.shape[-2] != q.shape[-2]:
        return None
    if mask is not None and (mask.dtype != bool or mask.ndim != 2 or mask.shape[-1] != k.shape[-2]):
        return None
    flat = [a.swapaxes(1, 2).reshape(len(a), a.shape[2], -1) if a.ndim == 4 else a for a in (q, k, v)]
    y = ops.attention.forward(*flat, heads=heads, causal=bool(is_causal), mask=mask)[0]
    return y.reshape(len(q), q.shape[2], heads, -1).swapaxes(1, 2) if q.ndim == 4 else y


def pointwise(op, **renamed):
    def computed(*arrays, **attributes):
        arrays = [a if isinstance(a, np.ndarray) else np.asarray(a) for a in arrays]
        if any(a.dtype not in FLOATS for a in arrays) or not only(attributes, *renamed):
            return None
        return op(*map(Tensor, arrays), **{renamed[name]: value for name, value in attributes.items()}).data

    return computed


def gelu(x, *, approximate=b"none"):
    return ops.gelu.forward(x, approximate=approximate.decode())[0]


def softmax(x, *, axis=-1):
    return ops.softmax.forward(x)[0] if axis in (-1, x.ndim - 1) and x.dtype in FLOATS else None


def reduced(op):
    def computed(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
        if x.dtype not in FLOATS or not x.size or (noop_with_empty_axes and (axes is None or not axes.size)):
            return None
        over = None if axes is None or not axes.size else tuple(map(int, axes))
        return op.forward(x, axis=over, keepdims=bool(keepdims))[0]

    return computed


def power(x, exponent):
    if x.dtype not in FLOATS or exponent.shape:
        return None
    return ops.power.forward(x, exponent=float(exponent))[0]


OPS = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": pool(ops.max_pool2d),
    "AveragePool": pool(ops.avg_pool2d),
    "GlobalAveragePool": lambda x: ops.global_avg_pool.forward(last(x))[0][:, :, None, None] if x.ndim == 4 else None,
    "Resize": resize,
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
    "LayerNormalization": last_axis(ops.layer_norm),
    "RMSNormalization": last_axis(ops.rms_norm),
    "Dropout": dropout,
    "SoftmaxCrossEntropyLoss": cross_entropy,
    "Attention": attention,
    "Gelu": gelu,
    "Softmax": softmax,
    "Relu": pointwise(ops.relu),
    "LeakyRelu": pointwise(ops.leaky_relu, alpha="slope"),
    "Sigmoid": pointwise(ops.sigmoid),
    "Tanh": pointwise(ops.tanh),
    "Add": pointwise(ops.add),
    "Sub": pointwise(ops.subtract),
    "Mul": pointwise(ops.multiply),
    "Div": pointwise(ops.divide),
    "Pow": power,
    "MatMul": lambda a, b: ops.matmul.forward(a, b)[0] if min(a.ndim, b.ndim) > 1 and a.dtype in FLOATS else None,
    "ReduceSum": reduced(ops.sum),
    "ReduceMean": reduced(ops.mean),
    "Transpose": lambda x, perm=None: ops.transpose.forward(x, axes=tuple(perm) if perm else None)[0],
}


@pytest.fixture(scope="module")
def cases():
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their own divisions by zero
        return [case for case in load_model_tests(kind="node") if case.model is not None]


@pytest.mark.parametrize("backend", ["reference", "numpy", "cpu"])
def test_node_cases(cases, backend):
    compared, wrong = Counter(), []
    for case in cases:
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type not in OPS:
            continue
        kind, (inputs, outputs) = nodes[0].op_type, case.data_sets[0]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in nodes[0].attribute}
        if backend == "reference" and np.size(outputs[0]) > 3000:
            continue  # plain loops, about a million multiply-adds a second
        try:
            with kernels.use(backend):
                found = OPS[kind](*inputs, **attributes)
        except TypeError as error:  # an attribute or an input that none of ours has
            assert "argument" in str(error), (case.name, error)
            continue
        if found is not None:
            compared[kind] += 1
            scale = 1 + abs(outputs[0]).max()
            if found.shape != outputs[0].shape or abs(found - outputs[0]).max() > 1e-5 * scale:
                wrong.append(case.name)
    print(f"{compared.total()} cases: {dict(compared)}")
    assert wrong == []
    assert set(compared) == set(OPS)
    assert compared.total() >= (100 if backend == "reference" else 110)
