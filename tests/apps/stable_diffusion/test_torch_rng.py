"""PyTorch's random numbers: as listed, and as PyTorch draws them where it is installed."""

import numpy as np
import pytest

from tinydiff.apps.stable_diffusion.torch_rng import TorchRng
from tinydiff.errors import InputError

# torch.randn on a CPU: the first three numbers of a seed, and how many were asked for.
LISTED = [
    (0, 16, (-1.1258398, -1.1523602, -0.2505786)),
    (42, 4 * 64 * 64, (1.9269153, 1.4872841)),
]
FLOAT64 = (-2.310411800234176, -0.3732508612577643, -1.0608166785462863)


@pytest.mark.parametrize("seed, count, first", LISTED)
def test_listed_numbers(seed, count, first):
    numbers = TorchRng(seed).standard_normal(count)
    np.testing.assert_allclose(numbers[: len(first)], first, rtol=1e-6)
    assert numbers.dtype == np.float32 and abs(numbers.mean()) < 0.7


def test_images_are_drawn_channels_first():
    images = TorchRng(3).standard_normal((2, 4, 5, 3))
    assert images.shape == (2, 4, 5, 3) and images.flags.c_contiguous
    np.testing.assert_array_equal(images.transpose(0, 3, 1, 2).ravel(), TorchRng(3).standard_normal(120))
    assert TorchRng(3).standard_normal((20,), np.float64).dtype == np.float64


@pytest.mark.parametrize("seed", [0, 1, 42, 123456789, 2**32 - 1, 2**32 + 5])
def test_as_torch_draws(seed):
    torch = pytest.importorskip("torch")
    for count in [*range(1, 41), 64, 1000, 16384, 16385]:
        expected = torch.randn(count, generator=torch.Generator().manual_seed(seed)).numpy()
        np.testing.assert_allclose(TorchRng(seed).standard_normal(count), expected, atol=2e-6)


def test_one_after_the_other_as_torch_draws():
    torch = pytest.importorskip("torch")
    theirs, ours = torch.Generator().manual_seed(7), TorchRng(7)
    for count in (3, 1, 40, 5, 17, 2, 16, 7, 1, 1, 100):
        np.testing.assert_allclose(
            ours.standard_normal(count), torch.randn(count, generator=theirs).numpy(), atol=2e-6, err_msg=str(count)
        )


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40, 1000])
def test_float64_as_torch_draws(count):
    torch = pytest.importorskip("torch")
    expected = torch.randn(count, generator=torch.Generator().manual_seed(9), dtype=torch.float64).numpy()
    np.testing.assert_allclose(TorchRng(9).standard_normal(count, np.float64), expected, atol=1e-13)


def test_listed_numbers_of_float64():
    np.testing.assert_allclose(TorchRng(0).standard_normal(16, np.float64)[:3], FLOAT64, rtol=1e-12)


def test_seeds():
    np.testing.assert_array_equal(TorchRng(-1).standard_normal(20), TorchRng(2**32 - 1).standard_normal(20))
    for seed in ("3", 1.5, True, None, 2**64, -(2**63) - 1):
        with pytest.raises(InputError, match="seed is .*, expected a whole number"):
            TorchRng(seed)
