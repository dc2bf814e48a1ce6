"""Denoising: the level, the way down, windows, and that pictures come out nearer than they went in."""

import numpy as np
import pytest
from PIL import Image

import tinydiff
from tinydiff.apps.denoising import denoise, estimated_sigma, noise_step
from tinydiff.cli import main
from tinydiff.datasets import captioned_fashion
from tinydiff.errors import InputError
from tinydiff.weights import shipped


@pytest.fixture(scope="module")
def pipe():
    return tinydiff.load(shipped() / "pixels")


@pytest.fixture(scope="module")
def clean():
    return captioned_fashion("test").images[:16].astype(np.float32)


def noisy(clean, sigma, seed=0):
    return clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape).astype(np.float32)


def decibels(a, b):
    return 10 * np.log10(255**2 / np.mean((a - b) ** 2))


@pytest.mark.parametrize("sigma, least", [(25, 9), (50, 11)])
def test_one_step_takes_most_of_the_noise_away(pipe, clean, sigma, least):
    y = noisy(clean, sigma)
    out = denoise(pipe, y, sigma)
    assert out.dtype == np.float32 and out.min() >= 0 and out.max() <= 255
    assert decibels(out, clean) > decibels(y, clean) + least


def test_many_small_steps_end_at_a_possible_picture(pipe, clean):
    """Further off than the expected picture, yet far nearer than the noisy one; another seed, another picture."""
    y = noisy(clean, 50)
    one, many, again, other = (
        denoise(pipe, y, 50, steps, seed) for steps, seed in ((None, 0), (20, 1), (20, 1), (20, 2))
    )
    assert decibels(y, clean) + 5 < decibels(many, clean) < decibels(one, clean)
    assert np.array_equal(many, again) and not np.array_equal(many, other)


def test_the_step_has_the_noise_that_was_asked_for(pipe):
    for sigma in (2.0, 25.0, 100.0):
        a = pipe.schedule.alpha_bar[noise_step(pipe, sigma)]
        assert np.sqrt((1 - a) / a) * 127.5 == pytest.approx(sigma, rel=0.1)


def test_any_size_is_worked_on_in_windows(pipe, clean):
    page = np.concatenate(clean[:6].reshape(2, 3, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(1, 64, 96, 3), 0)[None]
    page = page[:, :61, :83]
    y = noisy(page, 40)
    out = denoise(pipe, y, 40)
    assert out.shape == page.shape and decibels(out, page) > decibels(y, page) + 6


def test_windows_give_back_what_they_took():
    """With a network that changes nothing, no seam and no shift is left."""

    class Same:
        autoencoder, size, denoiser, vocabulary = tinydiff.models.PixelSpace(), 8, None, None

    from tinydiff.apps import denoising

    image = np.random.default_rng(0).random((13, 21, 3)).astype(np.float32)
    before = denoising.denoise
    denoising.denoise = lambda pipe, windows, *rest: windows
    try:
        assert np.allclose(denoising._in_windows(Same(), image, 1.0, None, 0), image, atol=1e-5)
    finally:
        denoising.denoise = before


@pytest.mark.parametrize("sigma", [5.0, 30.0])
def test_the_noise_is_found(sigma):
    y, x = np.mgrid[0:128, 0:128]
    image = 100 + 50 * np.sin(x / 9)[..., None] * np.cos(y / 7)[..., None] * np.ones(3)
    found = estimated_sigma(image + sigma * np.random.default_rng(0).standard_normal(image.shape))
    assert found == pytest.approx(sigma, rel=0.05)
    assert estimated_sigma(
        image[..., 0] + sigma * np.random.default_rng(1).standard_normal((128, 128))
    ) == pytest.approx(sigma, rel=0.1)


def test_the_command(tmp_path, clean, capsys):
    for i, name in enumerate(("a", "b")):
        Image.fromarray(noisy(clean[i], 30).clip(0, 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    asked = ["denoise", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "-o", str(tmp_path / "out"), "--steps", "5"]
    assert main([*asked, "--level", "30"]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"{name}-{kind}.png" for name in "ab" for kind in ("denoised", "small-steps", "compared")
    }
    assert "noise of 30.0 grey levels" in capsys.readouterr().out
    assert main(asked) == 0
    assert "estimated" in capsys.readouterr().out
    before, after = (
        np.asarray(Image.open(p), float) for p in (tmp_path / "a.png", tmp_path / "out" / "a-denoised.png")
    )
    assert decibels(after, clean[0]) > decibels(before, clean[0]) + 4


@pytest.mark.parametrize("level", ["0", "-3", "much", "nan"])
def test_a_bad_level_is_one_line(tmp_path, level, capsys):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit):
        main(["denoise", str(tmp_path / "a.png"), "--level", level])
    assert f"got {level}, expected auto, or the noise's standard deviation" in capsys.readouterr().err


def test_bad_input(pipe, clean):
    with pytest.raises(InputError, match="sigma must be above 0; got 0"):
        denoise(pipe, clean, 0)
    with pytest.raises(InputError, match=r"images are uint8 \(16, 32, 32, 3\), expected floats"):
        denoise(pipe, clean.astype(np.uint8), 10)
    with pytest.raises(InputError, match="none empty"):
        denoise(pipe, clean[:0], 10)
    with pytest.raises(InputError, match="the weights work on latents"):
        denoise(tinydiff.load(), clean, 10)
