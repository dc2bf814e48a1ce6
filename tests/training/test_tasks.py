"""What each part learns from."""

from types import SimpleNamespace

import numpy as np

from tinydiff.autograd import Tensor
from tinydiff.training.tasks import measured_scaling_factor


def test_the_scaling_factor_is_of_a_sample_that_a_seed_draws():
    """2,048 of 3,000 images: the figure is pinned, so that a seed goes on to mean the same latents."""
    images = np.random.default_rng(0).integers(0, 256, (3000, 1, 1, 3)).astype(np.uint8)

    class Data:
        def __len__(self):
            return len(images)

        def epoch(self, number):
            return SimpleNamespace(images=images)

    model = SimpleNamespace(place=lambda x: x, moments=lambda x: (Tensor(x.data[..., :1]), None))
    factors = [measured_scaling_factor(model, Data(), seed) for seed in (0, 0, 1)]
    everything = 1 / (images[..., 0] / 127.5 - 1).std()
    assert factors[0] == factors[1] != factors[2]
    assert all(abs(factor / everything - 1) < 0.02 for factor in factors)
    np.testing.assert_allclose(factors[::2], [1.7190422146, 1.7192325251], rtol=1e-7)
