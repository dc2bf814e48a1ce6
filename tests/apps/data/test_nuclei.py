"""The shipped image of nuclei, and the simulator."""

import numpy as np
import pytest
from scipy import ndimage

from tinydiff.apps.data.nuclei import load_nuclei, simulate_nuclei


def test_the_shipped_image_and_its_halves():
    image, mask = load_nuclei()
    assert image.dtype == np.uint8 and image.shape == mask.shape == (512, 512)
    assert len(np.unique(mask)) == 1 + 125 and 0.19 < np.mean(mask > 0) < 0.21
    assert image[mask > 0].mean() > 1.5 * image[mask == 0].mean()
    left, right = load_nuclei("left"), load_nuclei("right")
    for whole, a, b in zip((image, mask), left, right, strict=True):
        assert a.shape == b.shape == (512, 256) and np.array_equal(whole, np.concatenate([a, b], 1))


def test_an_unknown_part_is_an_error():
    with pytest.raises(KeyError):
        load_nuclei("top")


def test_simulated_nuclei_look_like_nuclei():
    image, mask = simulate_nuclei(np.random.default_rng(0), (200, 300))
    assert image.dtype == np.uint8 and mask.dtype == np.int32 and image.shape == mask.shape == (200, 300)
    assert 0.2 <= np.mean(mask > 0) < 0.25
    assert image[mask > 0].mean() > 1.3 * image[mask == 0].mean()
    smooth = ndimage.uniform_filter(image.astype(float), 5)
    assert np.std(image - smooth) > 1  # photons are counted: it is noisy
    touching = sum(
        len(np.unique(mask[ndimage.binary_dilation(mask == number)])) > 2 + (mask == 0).any()
        for number in np.unique(mask)[1:]
    )
    assert touching >= 2


def test_a_seed_gives_the_same_image():
    one, same, other = (simulate_nuclei(np.random.default_rng(seed), (64, 64)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_haze_without_a_nucleus():
    rng = np.random.default_rng
    image, mask = simulate_nuclei(rng(0), (128, 128), density=0, haze=2, exposures=500)
    assert not mask.any() and image.std() > 40
    _, plain = simulate_nuclei(rng(0), (128, 128), 0.1)
    assert np.array_equal(simulate_nuclei(rng(0), (128, 128), 0.1, haze=1)[1], plain)  # the cells are the same


def test_exposures_take_noise_away():
    """What is left of it falls as 1/√n, down to that of rounding."""

    def noise(exposures):
        image, _ = simulate_nuclei(np.random.default_rng(0), (128, 128), density=0, exposures=exposures)
        return np.std(image - ndimage.gaussian_filter(image.astype(float), 8))

    assert noise(16) == pytest.approx(noise(1) / 4, rel=0.1)
    assert noise(500) < 0.6
