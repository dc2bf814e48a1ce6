"""Every op, forward and backward, against PyTorch: float64 on the NumPy kernels, float32 on the compiled ones."""

import numpy as np
import pytest

from tinydiff import ops
from tinydiff.training.optim import Update, adamw_step

torch = pytest.importorskip("torch")
F = torch.nn.functional
torch.set_num_threads(1)

# max |ours − theirs| over max |theirs|; float32: both sides round, in different orders.
TOLERANCE = {np.float64: 1e-10, np.float32: 1e-5}


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def first(x):
    """Channels last to channels first."""
    return x.movedim(-1, 1)


def last(x):
    return x.movedim(1, -1)


def convolution(x, w, b=None, stride=1, padding=(0, 0, 0, 0), **options):
    top, bottom, left, right = padding
    x = F.pad(first(x), (left, right, top, bottom))
    return last(F.conv2d(x, w.permute(3, 2, 0, 1), b, stride=stride, **options))


def max_pool(x, size, **options):
    return last(F.max_pool2d(first(x), size, **options))


def avg_pool(x, size, **options):
    return last(F.avg_pool2d(first(x), size, **options))


def bilinear(x, size=None, **options):
    where = {"size": size} if size else {"scale_factor": 2}
    return last(F.interpolate(first(x), mode="bilinear", **where, **options))


def batch_norm(x, scale, shift, running=(None, None), training=True, **options):
    mean, variance = (None if a is None else torch.tensor(a).to(x.dtype) for a in running)
    return last(F.batch_norm(first(x), mean, variance, scale, shift, training, **options))


def cross_entropy(logits, labels, weights, class_weights=None, **options):
    classes = None if class_weights is None else torch.tensor(class_weights).to(logits.dtype)
    return F.cross_entropy(logits, labels, classes, **options)


class Draws:
    def random(self, shape):
        return np.random.default_rng(4).random(shape)


def up_convolution(x, w, b):
    return last(F.conv_transpose2d(first(x), w.permute(3, 2, 0, 1), b, stride=2))


def center_crop(x, size):
    """By negative padding: PyTorch itself has no crop."""
    top, left = ((n - m) // 2 for n, m in zip(x.shape[2:], size, strict=True))
    return F.pad(x, (-left, size[1] - x.shape[3] + left, -top, size[0] - x.shape[2] + top))


def attention(q, k, v, heads, causal=False, mask=None):
    q, k, v = (a.unflatten(2, (heads, -1)).transpose(1, 2) for a in (q, k, v))
    mask = None if mask is None else torch.tensor(mask)
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal).transpose(1, 2).flatten(2)


def kl(mean, log_variance):
    ours = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    return torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).sum() / len(mean)


def geglu(x):
    values, gate = x.chunk(2, -1)
    return values * F.gelu(gate)


def group_norm(x, scale, shift, groups, silu=False):
    y = last(F.group_norm(first(x), groups, scale, shift))
    return F.silu(y) if silu else y


LABELS = np.array([0, 2, 1, 2])

# op → (arrays, options, the same in PyTorch)
CASES = {
    "add": ((normal(2, 3, 4), normal(3, 1)), {}, torch.add),
    "subtract": ((normal(2, 3, 4), normal(3, 1)), {}, torch.sub),
    "multiply": ((normal(2, 3, 4), normal(3, 1)), {}, torch.mul),
    "reshape": ((normal(2, 6),), {"shape": (3, 4)}, torch.reshape),
    "relu": ((normal(3, 5),), {}, F.relu),
    "silu": ((3 * normal(3, 5),), {}, F.silu),
    "divide": ((normal(2, 3, 4), 2 + abs(normal(3, 1))), {}, torch.divide),
    "power": ((0.5 + abs(normal(3, 4)),), {"exponent": -1.5}, lambda x, exponent: x**exponent),
    "matmul": ((normal(2, 1, 3, 4), normal(5, 4, 2)), {}, torch.matmul),
    "sum": ((normal(2, 3, 4),), {"axis": (0, -1)}, lambda x, axis: x.sum(axis)),
    "mean": ((normal(2, 3, 4),), {"axis": -2, "keepdims": True}, lambda x, axis, keepdims: x.mean(axis, keepdims)),
    "transpose": ((normal(2, 3, 4),), {"axes": (1, 2, 0)}, lambda x, axes: x.permute(axes)),
    "getitem": ((normal(4, 5),), {"key": (slice(1, 4, 2), 2)}, lambda x, key: x[key]),
    "gelu": ((3 * normal(3, 5),), {}, F.gelu),
    "gelu, tanh": ((3 * normal(3, 5),), {"approximate": "tanh"}, F.gelu),
    "leaky_relu": ((normal(3, 5),), {"slope": 0.3}, lambda x, slope: F.leaky_relu(x, slope)),
    "sigmoid": ((3 * normal(3, 5),), {}, torch.sigmoid),
    "tanh": ((3 * normal(3, 5),), {}, torch.tanh),
    "rms_norm": ((normal(2, 3, 5), normal(5)), {"eps": 1e-3}, lambda x, w, eps: F.rms_norm(x, (5,), w, eps)),
    "binary_cross_entropy_loss": (
        (9 * normal(3, 5), abs(np.tanh(normal(3, 5, seed=1)))),
        {},
        F.binary_cross_entropy_with_logits,
    ),
    "dice_loss": (
        (abs(np.tanh(normal(2, 3, 5))), abs(np.tanh(normal(2, 3, 5, seed=1)))),
        {},
        lambda p, t: (1 - (2 * (p * t).sum((1, 2)) + 1) / (p.sum((1, 2)) + t.sum((1, 2)) + 1)).mean(),
    ),
    "quick_gelu": ((3 * normal(3, 5),), {}, lambda x: x * torch.sigmoid(1.702 * x)),
    "geglu": ((2 * normal(3, 5, 8),), {}, geglu),
    "softmax": ((normal(3, 5),), {}, lambda x: F.softmax(x, -1)),
    "conv2d": ((normal(2, 7, 6, 5), normal(3, 3, 5, 4), normal(4)), {"padding": (1, 1, 1, 1)}, convolution),
    "conv2d, strided": (
        (normal(2, 7, 6, 3), normal(3, 2, 3, 4), normal(4)),
        {"stride": 2, "padding": (0, 1, 2, 1)},
        convolution,
    ),
    "conv2d, without bias": ((normal(3, 4, 4, 17), normal(1, 1, 17, 33), None), {}, convolution),
    "conv_transpose2d": ((normal(2, 3, 4, 5), normal(2, 2, 6, 5), normal(6)), {}, up_convolution),
    "linear": ((normal(3, 4, 5), normal(5, 6), normal(6)), {}, lambda x, w, b: F.linear(x, w.T, b)),
    "group_norm": ((normal(2, 4, 3, 6), normal(6), normal(6, seed=1)), {"groups": 3}, group_norm),
    "group_norm, SiLU": ((normal(2, 4, 3, 6), normal(6), normal(6, seed=1)), {"groups": 2, "silu": True}, group_norm),
    "layer_norm": ((normal(2, 3, 6), normal(6), normal(6, seed=1)), {}, lambda x, w, b: F.layer_norm(x, (6,), w, b)),
    "attention": ((normal(2, 5, 6), normal(2, 5, 6, seed=1), normal(2, 5, 6, seed=2)), {"heads": 2}, attention),
    "attention, causal": (
        (normal(2, 5, 6), normal(2, 5, 6, seed=1), normal(2, 5, 6, seed=2)),
        {"heads": 2, "causal": True},
        attention,
    ),
    "attention, masked": (
        (normal(2, 3, 6), normal(2, 4, 6, seed=1), normal(2, 4, 6, seed=2)),
        {"heads": 2, "mask": np.array([[True, False, True, True], [False, True, False, False], [True] * 4])},
        attention,
    ),
    "attention, cross": ((normal(2, 9, 8), normal(2, 4, 8), normal(2, 4, 8, seed=2)), {"heads": 1}, attention),
    "embedding": ((normal(5, 3), np.array([[0, 4, 4], [1, 0, 4]])), {}, lambda table, i: F.embedding(i, table)),
    "conv2d, dilated": ((normal(2, 7, 6, 3), normal(2, 3, 3, 4), normal(4)), {"dilation": 2}, convolution),
    "conv2d, grouped": (
        (normal(2, 7, 6, 4), normal(3, 3, 2, 6), normal(6)),
        {"groups": 2, "dilation": 2, "stride": 2, "padding": (1, 1, 2, 0)},
        convolution,
    ),
    "conv2d, depthwise": ((normal(2, 7, 6, 5), normal(3, 3, 1, 5), normal(5)), {"groups": 5}, convolution),
    "max_pool2d": ((normal(2, 6, 9, 4),), {"size": 3}, max_pool),
    "max_pool2d, odd": ((normal(2, 7, 9, 4),), {"size": 2}, max_pool),
    "max_pool2d, strided": ((normal(2, 7, 9, 4),), {"size": 3, "stride": 2, "padding": 1}, max_pool),
    "max_pool2d, sparse": ((normal(2, 7, 9, 4),), {"size": 2, "stride": 3}, max_pool),
    "avg_pool2d": ((normal(2, 7, 9, 4),), {"size": 2}, avg_pool),
    "avg_pool2d, strided": ((normal(2, 7, 9, 4),), {"size": 3, "stride": 2, "padding": 1}, avg_pool),
    "upsample_bilinear": ((normal(2, 3, 4, 5),), {}, bilinear),
    "upsample_bilinear, sized": ((normal(2, 3, 4, 5),), {"size": (7, 3)}, bilinear),
    "upsample_bilinear, aligned": ((normal(2, 3, 4, 5),), {"size": (7, 3), "align_corners": True}, bilinear),
    "batch_norm": ((normal(4, 3, 5), normal(5), normal(5, seed=1)), {}, batch_norm),
    "batch_norm, evaluated": (
        (normal(4, 2, 3, 5), normal(5), normal(5, seed=1)),
        {"training": False, "running": (normal(5, seed=2), abs(normal(5, seed=3))), "eps": 1e-3},
        batch_norm,
    ),
    "dropout": (
        (normal(4, 5),),
        {"rng": Draws(), "p": 0.3},
        lambda x, rng, p: x * torch.tensor(rng.random((4, 5)) >= p) / (1 - p),
    ),
    "upsample_nearest": ((normal(2, 3, 4, 5),), {}, lambda x: last(F.interpolate(first(x), scale_factor=2))),
    "concat": ((normal(2, 3, 4), normal(2, 3, 2)), {}, lambda a, b: torch.cat([a, b], -1)),
    "center_crop": ((normal(2, 5, 6, 3),), {"size": (3, 2)}, lambda x, size: last(center_crop(first(x), size))),
    "slice_channels": ((normal(2, 3, 5),), {"start": 1, "stop": 4}, lambda x, start, stop: x[..., start:stop]),
    "add_channel_bias": (
        (normal(2, 3, 2, 5), normal(2, 5)),
        {},
        lambda x, b: last(first(x) + b[:, :, None, None]),
    ),
    "global_avg_pool": ((normal(2, 3, 4, 5),), {}, lambda x: x.mean((1, 2))),
    "mse_loss": ((normal(3, 4), normal(3, 4, seed=1)), {}, F.mse_loss),
    "l1_loss": ((normal(3, 4), normal(3, 4, seed=1)), {}, F.l1_loss),
    "cross_entropy_loss": ((3 * normal(4, 3), LABELS, None), {}, cross_entropy),
    "cross_entropy_loss, smoothed": ((3 * normal(4, 3), LABELS, None), {"label_smoothing": 0.1}, cross_entropy),
    "cross_entropy_loss, ignoring": ((3 * normal(4, 3), LABELS, None), {"ignore_index": 2}, cross_entropy),
    "cross_entropy_loss, all of it": (
        (3 * normal(4, 3), np.array([0, -100, 1, 2]), None),
        {"ignore_index": -100, "label_smoothing": 0.2, "class_weights": np.array([0.5, 2.0, 3.0])},
        cross_entropy,
    ),
    "cross_entropy_loss, of pixels": (
        (3 * normal(2, 3, 4, 3), np.arange(24).reshape(2, 3, 4) % 3, abs(normal(2, 3, 4, seed=1))),
        {},
        lambda y, labels, w: (w * F.cross_entropy(first(y), labels, reduction="none")).mean(),
    ),
    "kl_loss": ((normal(3, 2, 4), normal(3, 2, 4, seed=1)), {}, kl),
    "reparameterize": (tuple(normal(2, 3, seed=i) for i in range(3)), {}, lambda m, v, e: m + torch.exp(v / 2) * e),
}


def test_every_op_is_compared():
    assert {name.split(",")[0] for name in CASES} == set(ops.__all__)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", CASES)
def test_op(name, dtype):
    arrays, options, theirs = CASES[name]
    arrays = [a.astype(dtype) if a is not None and a.dtype == np.float64 else a for a in arrays]
    y, backward = getattr(ops, name.split(",")[0]).forward(*arrays, **options)
    dy = normal(*y.shape, seed=7)
    dy = np.asarray(dy, dtype)

    tensors = [None if a is None else torch.tensor(a, requires_grad=a.dtype == dtype) for a in arrays]
    expected = theirs(*tensors, **options)
    expected.backward(torch.tensor(dy))

    def assert_close(ours, right):
        right = right.detach().numpy()
        assert ours.shape == right.shape
        assert abs(ours - right).max() <= TOLERANCE[dtype] * max(abs(right).max(), 1e-3)

    assert_close(y, expected)
    for tensor, dx in zip(tensors, backward(dy), strict=True):
        if tensor is not None and tensor.requires_grad:
            assert_close(dx, tensor.grad)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_adamw(dtype):
    p, m, v = normal(50).astype(dtype), np.zeros(50, dtype), np.zeros(50, dtype)
    average = p.copy()
    parameter = torch.nn.Parameter(torch.tensor(p))
    optimiser = torch.optim.AdamW([parameter], lr=0.05, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    for t in range(1, 6):
        g = normal(50, seed=t).astype(dtype)
        corrections = 1 / (1 - 0.9**t), 1 / (1 - 0.99**t)
        update = Update(0.05, 0.9, 0.99, 1e-8, *corrections, 1.0, 0.9)
        adamw_step([p], [g], [m], [v], [average], [0.1], update)
        parameter.grad = torch.tensor(g)
        optimiser.step()
        np.testing.assert_allclose(p, parameter.detach().numpy(), rtol=0, atol=10 * TOLERANCE[dtype])
