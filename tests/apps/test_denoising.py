"""Denoising: the level, the way down, windows, and that images come out nearer than they went in."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tinydiff
import tinydiff.weights
from tinydiff.apps.denoising import estimated_sigma, nearest_timestep
from tinydiff.cli import main
from tinydiff.datasets import captioned_fashion
from tinydiff.datasets.pixels import as_floats, as_pixels
from tinydiff.diffusion import scaled_linear, zero_terminal_snr
from tinydiff.errors import InputError


@pytest.fixture(scope="module")
def denoiser():
    return tinydiff.load_denoiser()


@pytest.fixture(scope="module")
def clean():
    return as_floats(captioned_fashion("test").images[:16])


def noisy(clean, sigma, seed=0):
    return clean + sigma / 127.5 * np.random.default_rng(seed).standard_normal(clean.shape).astype(np.float32)


def decibels(a, b):
    return 10 * np.log10(2**2 / np.mean((a - b) ** 2))


@pytest.mark.parametrize("sigma, least", [(25, 9), (50, 11)])
def test_one_step_takes_most_of_the_noise_away(denoiser, clean, sigma, least):
    y = noisy(clean, sigma)
    out = denoiser.denoise(y, sigma)
    assert out.dtype == np.float32 and out.min() >= -1 and out.max() <= 1
    assert decibels(out, clean) > decibels(y, clean) + least


def test_many_small_steps_end_at_a_possible_image(denoiser, clean):
    """Further off than the expected image, yet far nearer than the noisy one; another seed, another image."""
    y = noisy(clean, 50)
    one, many, again, other = (
        denoiser.denoise(y, 50, steps, seed) for steps, seed in ((None, 0), (20, 1), (20, 1), (20, 2))
    )
    assert decibels(y, clean) + 5 < decibels(many, clean) < decibels(one, clean)
    assert np.array_equal(many, again) and not np.array_equal(many, other)


def test_the_step_has_the_noise_that_was_asked_for(denoiser):
    for sigma in (2.0, 25.0, 100.0):
        pipe = denoiser.pipe
        a = pipe.schedule.alpha_bar[nearest_timestep(pipe, sigma)]
        assert np.sqrt((1 - a) / a) * 127.5 == pytest.approx(sigma, rel=0.1)


def test_any_size_is_worked_on_in_windows(denoiser, clean):
    page = np.concatenate(clean[:6].reshape(2, 3, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(1, 64, 96, 3), 0)[None]
    page = page[:, :61, :83]
    y = noisy(page, 40)
    out = denoiser.denoise(y, 40)
    assert out.shape == page.shape and decibels(out, page) > decibels(y, page) + 6


def test_windows_give_back_what_they_took(denoiser, monkeypatch):
    """With a network that changes nothing, no seam and no shift is left."""
    image = np.random.default_rng(0).random((33, 51, 3)).astype(np.float32)
    monkeypatch.setattr(denoiser, "_denoised", lambda windows, *rest: windows)
    assert np.allclose(denoiser._in_windows(image, 1.0, None, 0), image, atol=1e-5)


def test_uint8_stays_uint8_and_one_image_one_image(denoiser, clean):
    y = np.rint((noisy(clean[:2], 30).clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    both, first = denoiser.denoise(y, 30), denoiser.denoise(y[0], 30)
    assert both.dtype == np.uint8 and both.shape == (2, 32, 32, 3) and first.shape == (32, 32, 3)
    assert abs(both[0].astype(int) - first).max() <= 1
    assert decibels(as_floats(both), clean[:2]) > decibels(as_floats(y), clean[:2]) + 4


def test_without_sigma_each_image_s_own_is_estimated(denoiser, clean):
    y = np.stack([noisy(clean[0], 20), noisy(clean[1], 60)]).astype(np.float32)
    alone = [denoiser.denoise(image, estimated_sigma(image)) for image in y]
    assert np.array_equal(denoiser.denoise(y), np.stack(alone))
    assert estimated_sigma(y[1]) > 2 * estimated_sigma(y[0])


def test_a_denoiser_says_what_it_is(denoiser):
    assert repr(denoiser).startswith("ImageDenoiser(32×32 windows, noise from 0.8 grey levels, 2,")


@pytest.mark.parametrize("sigma", [5.0, 30.0])
def test_the_noise_is_found(sigma):
    y, x = np.mgrid[0:128, 0:128]
    image = 100 + 50 * np.sin(x / 9)[..., None] * np.cos(y / 7)[..., None] * np.ones(3)
    noisy_image = image + sigma * np.random.default_rng(0).standard_normal(image.shape)
    assert estimated_sigma(noisy_image / 127.5 - 1) == pytest.approx(sigma, rel=0.05)
    assert estimated_sigma(noisy_image[..., 0] / 127.5 - 1) == pytest.approx(sigma, rel=0.1)
    assert estimated_sigma(noisy_image.clip(0, 255).astype(np.uint8)) == pytest.approx(sigma, rel=0.05)
    assert estimated_sigma(np.zeros((8, 8, 3), np.uint8)) == 1
    with pytest.raises(InputError, match="denoise: the noise of 1×5 pixels cannot be estimated"):
        estimated_sigma(np.zeros((1, 5, 3), np.uint8))


def test_the_command(tmp_path, clean, capsys):
    for i, name in enumerate(("a", "b")):
        Image.fromarray(as_pixels(noisy(clean[i], 30))).save(tmp_path / f"{name}.png")
    asked = ["denoise", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "-o", str(tmp_path / "out"), "--steps", "5"]
    assert main([*asked, "--level", "30"]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"{name}-{kind}.png" for name in "ab" for kind in ("denoised", "small-steps", "compared")
    }
    assert "noise of 30.0 grey levels" in capsys.readouterr().out
    assert main(asked) == 0
    assert "estimated" in capsys.readouterr().out
    before, after = (
        as_floats(np.asarray(Image.open(p))) for p in (tmp_path / "a.png", tmp_path / "out" / "a-denoised.png")
    )
    assert decibels(after, clean[0]) > decibels(before, clean[0]) + 4


def test_grey_in_grey_out(tmp_path, denoiser, clean):
    image = as_pixels(noisy(clean[0], 30))[:, :, 0]
    Image.fromarray(image).save(tmp_path / "a.png")
    asked = ["denoise", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--steps", "2", "--level", "30"]
    assert main(asked) == 0
    one, many, beside = (
        Image.open(tmp_path / "out" / f"a-{kind}.png") for kind in ("denoised", "small-steps", "compared")
    )
    assert (one.mode, many.mode, beside.mode) == ("L", "L", "RGB")
    coloured = denoiser.denoise(np.repeat(image[:, :, None], 3, 2), 30)
    assert np.array_equal(np.asarray(one), np.rint(coloured.mean(-1)))


def test_one_bit_comes_in_as_black_and_white(tmp_path):
    Image.fromarray(np.arange(32 * 32).reshape(32, 32) % 32 > 15).save(tmp_path / "a.png")
    assert main(["denoise", str(tmp_path / "a.png"), "-o", str(tmp_path), "--steps", "1", "--level", "5"]) == 0
    out = np.asarray(Image.open(tmp_path / "a-denoised.png"), int)
    assert out[:, :12].max() < 60 and out[:, 20:].min() > 200


def test_a_photo_on_its_side_comes_out_upright(tmp_path):
    photo = Image.new("RGB", (48, 32), (200, 40, 40))
    exif = photo.getexif()
    exif[0x112] = 6
    photo.save(tmp_path / "photo.jpg", exif=exif)
    assert main(["denoise", str(tmp_path / "photo.jpg"), "-o", str(tmp_path), "--steps", "1", "--level", "5"]) == 0
    assert Image.open(tmp_path / "photo-denoised.png").size == (32, 48)


@pytest.mark.parametrize("level", ["0", "-3", "much", "nan"])
def test_a_bad_level_is_one_line(tmp_path, level, capsys):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit):
        main(["denoise", str(tmp_path / "a.png"), "--level", level])
    assert f"got {level}, expected auto, or the noise's standard deviation" in capsys.readouterr().err


def test_bad_input(denoiser, clean):
    with pytest.raises(InputError, match="sigma must be above 0; got 0"):
        denoiser.denoise(clean, 0)
    with pytest.raises(InputError, match=r"images are int64 \(16, 32, 32, 3\), expected uint8 or floats"):
        denoiser.denoise(clean.astype(np.int64), 10)
    with pytest.raises(InputError, match=r"images are float32 \(32, 32\)"):
        denoiser.denoise(clean[0, ..., 0], 10)
    with pytest.raises(InputError, match="none empty"):
        denoiser.denoise(clean[:0], 10)
    with pytest.raises(InputError, match="the weights work on latents"):
        tinydiff.load_denoiser(tinydiff.weights.shipped_weights())


def test_a_schedule_that_ends_in_noise_alone():
    """Where no share of the image is left, and the noise in grey levels is infinite."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule = zero_terminal_snr(scaled_linear())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nearest_timestep(SimpleNamespace(schedule=schedule), 25.0) in range(1, 500)
        assert nearest_timestep(SimpleNamespace(schedule=schedule), 1e9) == 998
