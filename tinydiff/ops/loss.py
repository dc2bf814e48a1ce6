"""Losses: one number that says how wrong, and the direction in which it would be less."""

from tinydiff.autograd import Array, Backward, op
from tinydiff.device import array_module, to_device_of
from tinydiff.errors import InputError
from tinydiff.ops.activation import logistic


@op
def mse_loss(prediction: Array, target: Array) -> tuple[Array, Backward]:
    """mean (prediction − target)²; dprediction = dy·2·(prediction − target) / size, dtarget = −dprediction."""
    _same_shape("mse_loss", prediction, target)
    difference = prediction - target

    def backward(dy: Array) -> tuple:
        d = (dy * difference * (2 / prediction.size)).astype(prediction.dtype)
        return d, -d

    return (difference * difference).mean(), backward


@op
def l1_loss(prediction: Array, target: Array) -> tuple[Array, Backward]:
    """mean |prediction − target|; dprediction = dy·sign(prediction − target) / size, dtarget = −dprediction."""
    _same_shape("l1_loss", prediction, target)
    difference = prediction - target

    def backward(dy: Array) -> tuple:
        d = (dy * array_module(prediction).sign(difference) / prediction.size).astype(prediction.dtype)
        return d, -d

    return abs(difference).mean(), backward


@op(integers=("labels",))
def cross_entropy_loss(
    logits: Array,
    labels: Array,
    weights: Array | None = None,
    *,
    class_weights: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Array, Backward]:
    """mean of −w·Σ_k v_k·q_k·log softmax(logits)_k over all examples or pixels; w and v are 1 where none are given.

        logits (…, K), labels (…) integers, weights w (…) or None, class_weights v (K,) or None
        q = (1 − s)·one-hot + s/K with s = label_smoothing;   labels of ignore_index count for nothing
        dlogits = w·(softmax·Σ_k v_k·q_k − v·q) / positions;   dw = −Σ_k v_k·q_k·log softmax(logits)_k / positions

    The mean is over all positions, whatever they weigh: a heavier pixel pulls harder and no other one less.  Class
    weights are shares instead: with them the sum is divided by Σ v[label].  All may be on another device than logits.
    (Weights as in Ronneberger 2015, arXiv:1505.04597, equation 1; Szegedy 2015, arXiv:1512.00567, section 7)
    Raises InputError where shapes do not fit, or for a label that is not 0 … K − 1.
    """
    if logits.ndim < 2 or labels.shape != logits.shape[:-1]:
        raise InputError(f"cross_entropy_loss: logits {logits.shape} must be (…, K) and labels {labels.shape} (…)")
    if weights is not None and weights.shape != labels.shape:
        raise InputError(f"cross_entropy_loss: weights {weights.shape}, expected one for each label {labels.shape}")
    xp, classes, dtype = array_module(logits), logits.shape[-1], logits.dtype.type
    if class_weights is not None and class_weights.shape != (classes,):
        raise InputError(f"cross_entropy_loss: class_weights {class_weights.shape}, expected {classes}, one a class")
    counted = array_module(labels).ones(labels.shape, bool) if ignore_index is None else labels != ignore_index
    used = labels[counted]
    if not used.size or int(used.min()) < 0 or int(used.max()) >= classes:
        found = f"{used.min()} … {used.max()}" if used.size else f"{ignore_index} alone, which is ignored"
        raise InputError(f"cross_entropy_loss: labels must be 0 … {classes - 1}; got {found}")
    labels, counted = to_device_of(labels, logits), to_device_of(counted, logits)
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - xp.log(xp.exp(shifted).sum(-1, keepdims=True))  # (…, K)
    one_hot = (labels[..., None] == xp.arange(classes)).astype(logits.dtype)
    v = dtype(1) if class_weights is None else to_device_of(class_weights, logits).astype(logits.dtype)
    q = v * (one_hot * dtype(1 - label_smoothing) + dtype(label_smoothing / classes))
    each = -(q * log_p).sum(-1)  # (…)
    w = counted.astype(logits.dtype)
    total = used.size if class_weights is None else (v * one_hot * w[..., None]).sum()
    if weights is not None:
        w = w * to_device_of(weights, logits).astype(logits.dtype)

    def backward(dy: Array) -> tuple:
        d = (xp.exp(log_p) * q.sum(-1, keepdims=True) - q) * (w * (dy / total))[..., None]
        dw = None if weights is None else (each * counted * (dy / total)).astype(logits.dtype)
        return d.astype(logits.dtype), None, dw

    return (w * each).sum() / dtype(total), backward


@op
def binary_cross_entropy_loss(logits: Array, labels: Array) -> tuple[Array, Backward]:
    """mean of −t·log σ(z) − (1 − t)·log(1 − σ(z)), z the logits and t the labels in [0, 1], of one shape.

    It is worked out as max(z, 0) − z·t + log(1 + e^{−|z|}), which cannot overflow;  dz = (σ(z) − t)·dy / size.
    Raises InputError where shapes differ.
    """
    _same_shape("binary_cross_entropy_loss", logits, labels)
    xp, size = array_module(logits), logits.size

    def backward(dy: Array) -> tuple:
        share = (dy / size).astype(logits.dtype)
        return (logistic(logits) - labels) * share, -logits * share

    loss = xp.maximum(logits, 0) - logits * labels + xp.log(1 + xp.exp(-abs(logits)))
    return loss.mean(), backward


@op
def dice_loss(prediction: Array, labels: Array, *, smooth: float = 1.0) -> tuple[Array, Backward]:
    """1 − (2·Σ p·t + smooth) / (Σ p + Σ t + smooth), p in [0, 1] and t of one shape (N, …): the mean over N examples.

    dp = −(2·t − share) / (Σ p + Σ t + smooth) / N, where share is the fraction above, and dt likewise.
    Raises InputError where shapes differ.  (Milletari 2016, arXiv:1606.04797)
    """
    _same_shape("dice_loss", prediction, labels)
    n, smooth = len(prediction), prediction.dtype.type(smooth)
    axes = tuple(range(1, prediction.ndim))
    total = (prediction + labels).sum(axes, keepdims=True) + smooth  # (N, 1, …)
    share = (2 * (prediction * labels).sum(axes, keepdims=True) + smooth) / total

    def backward(dy: Array) -> tuple:
        factor = (-dy / n).astype(prediction.dtype) / total
        return (2 * labels - share) * factor, (2 * prediction - share) * factor

    return 1 - share.mean(), backward


@op
def kl_loss(mean: Array, log_variance: Array) -> tuple[Array, Backward]:
    """KL divergence of N(mean, e^log_variance) from N(0, 1), summed over an example's elements, mean over examples.

        ½·Σ (mean² + variance − 1 − log_variance) / N;   dmean = mean / N,   dlog_variance = ½·(variance − 1) / N

    (Kingma & Welling 2013, arXiv:1312.6114, appendix B)
    """
    _same_shape("kl_loss", mean, log_variance)
    n = mean.shape[0]
    variance = array_module(mean).exp(log_variance)

    def backward(dy: Array) -> tuple:
        share = (dy / n).astype(mean.dtype)
        return share * mean, share * (variance - 1) / 2

    total = (mean * mean + variance - 1 - log_variance).sum()
    return total / mean.dtype.type(2 * n), backward  # NumPy 1 makes float64 of a float32 number over an integer


@op
def reparameterize(mean: Array, log_variance: Array, noise: Array) -> tuple[Array, Backward]:
    """A draw through which gradients pass: z = mean + e^{log_variance / 2}·noise.  (Kingma & Welling 2013)"""
    _same_shape("reparameterize", mean, log_variance)
    _same_shape("reparameterize", mean, noise)
    deviation = array_module(mean).exp(log_variance / 2)
    return mean + deviation * noise, lambda dy: (dy, dy * noise * deviation / 2, dy * deviation)


def _same_shape(name: str, a: Array, b: Array) -> None:
    if a.shape != b.shape:
        raise InputError(f"{name}: the two arrays have shapes {a.shape} and {b.shape}, expected the same")
