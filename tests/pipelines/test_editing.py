"""Editing with the shipped weights: what must stay stays, and more strength changes more."""

import numpy as np
import pytest

import tinydiff
from tinydiff.datasets import captioned_fashion
from tinydiff.datasets.pixels import as_floats
from tinydiff.errors import InputError
from tinydiff.pipelines.editing import reconstruct, slerp

PROMPT = "a red dress on a white background"


@pytest.fixture(scope="module")
def pipe():
    return tinydiff.load()


@pytest.fixture(scope="module")
def dress(pipe):
    return pipe.generate([PROMPT], steps=8)


def difference(a, b):
    return np.abs(a.astype(int) - b.astype(int)).mean()


def test_more_strength_changes_more(pipe, dress):
    asked = ["a blue dress on a white background"]
    changes = [difference(pipe.edit(dress, asked, strength, steps=10), dress) for strength in (0.1, 0.5, 1.0)]
    assert changes == sorted(changes) and changes[0] < 0.75 * changes[2], changes


def test_full_strength_forgets_the_image(pipe, dress):
    other = 255 - dress
    one, two = (pipe.edit(images, [PROMPT], 1.0, steps=5, seed=3) for images in (dress, other))
    assert np.array_equal(one, two)
    assert np.array_equal(one, pipe.generate([PROMPT], steps=5, seed=3))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm", "heun"])
def test_what_the_mask_protects_stays_bit_for_bit(pipe, dress, sampler):
    mask = np.zeros((32, 32), bool)
    mask[:, 16:] = True
    asked = ["a blue dress on a white background"]
    out = pipe.edit(dress, asked, 1.0, mask, steps=8, sampler=sampler)
    assert np.array_equal(out[:, ~mask], dress[:, ~mask])
    assert difference(out[:, mask], dress[:, mask]) > 5


def test_what_is_generated_fits_what_is_held(pipe, dress):
    """The free half sees the held one on the way, and so becomes another than without it."""
    mask = np.zeros((32, 32), bool)
    mask[:, 16:] = True
    held = pipe.edit(dress, [PROMPT], 1.0, mask, steps=8, seed=5)
    alone = pipe.edit(dress, [PROMPT], 1.0, steps=8, seed=5)
    assert difference(held[:, mask], alone[:, mask]) > 1


def test_what_is_held_follows_the_image_through_its_noise(pipe, dress, monkeypatch):
    """At each step it is the clean latent with that step's noise; at the end it is the clean latent itself."""
    seen, decode = [], pipe.decode
    monkeypatch.setattr(pipe, "decode", lambda latents: seen.append(latents) or decode(latents))
    pipe.edit(dress, [PROMPT], 1.0, np.zeros((32, 32), bool), steps=4)
    np.testing.assert_allclose(seen[0], pipe.autoencoder.encode(as_floats(dress)), atol=1e-6)


def test_a_mask_for_each_image(pipe, dress):
    images, masks = np.repeat(dress, 2, 0), np.zeros((2, 32, 32), bool)
    masks[1] = True
    out = pipe.edit(images, [PROMPT] * 2, 1.0, masks, steps=4)
    assert np.array_equal(out[0], images[0]) and not np.array_equal(out[1], images[1])


def test_one_prompt_serves_every_image_and_one_image_every_prompt(pipe, dress):
    two = np.repeat(dress, 2, 0)
    expected = pipe.edit(two, [PROMPT] * 2, 0.5, steps=4)
    assert np.array_equal(pipe.edit(two, PROMPT, 0.5, steps=4), expected)
    assert np.array_equal(pipe.edit(dress[0], [PROMPT] * 2, 0.5, steps=4), expected)
    assert np.array_equal(pipe.edit(dress[0], PROMPT, 0.5, steps=4), expected[:1])
    assert pipe.invert(dress[0], PROMPT, 4).shape == (1, 8, 8, 4)


def test_a_seed_gives_the_same_bits(pipe, dress):
    one, same, other = (pipe.edit(dress, [PROMPT], 0.7, steps=6, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_between_seeds_begins_and_ends_at_them(pipe):
    row = pipe.interpolate(PROMPT, seed=4, to_seed=9, count=4, steps=4)
    assert row.shape == (4, 32, 32, 3)
    for place, seed in ((0, 4), (-1, 9)):
        assert difference(row[place], pipe.generate([PROMPT], steps=4, seed=seed)[0]) < 0.2
    assert difference(row[0], row[-1]) > 1


def test_between_prompts_begins_and_ends_at_them(pipe):
    prompts = PROMPT, "a blue bag on a black background"
    row = pipe.interpolate(*prompts, seed=5, count=3, steps=4)
    for place, prompt in ((0, prompts[0]), (-1, prompts[1])):
        assert difference(row[place], pipe.generate([prompt], steps=4, seed=5)[0]) < 0.2
    assert difference(row[1], row[0]) > 1 and difference(row[1], row[2]) > 1


def test_eight_images_unless_another_number_is_asked_for(pipe):
    assert len(pipe.interpolate("a red dress on a white background", steps=1)) == 8


def test_slerp_between_arrays_of_any_length():
    one, other = np.array([2.0, 0.1]), np.array([0.1, 3.0])
    angle = np.arccos((one @ other) / (np.linalg.norm(one) * np.linalg.norm(other)))
    expected = (np.sin(0.7 * angle) * one + np.sin(0.3 * angle) * other) / np.sin(angle)
    np.testing.assert_allclose(slerp(one, other, 0.3), expected, rtol=1e-12)


def test_slerp_stays_on_the_sphere():
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, 1, 8, 8, 4)).astype(np.float32)
    assert np.allclose(slerp(one, other, 0), one) and np.allclose(slerp(one, other, 1), other, atol=1e-6)
    half = slerp(one, other, 0.5)
    assert half.dtype == np.float32
    lengths = [np.linalg.norm(x) for x in (one, half, other)]
    assert min(lengths[0], lengths[2]) - 0.1 < lengths[1] < max(lengths[0], lengths[2]) + 0.1
    assert np.array_equal(slerp(one, one, 0.3), one)


def test_inversion_comes_nearer_with_more_steps(pipe):
    test = captioned_fashion("test")
    images, prompts = test.images[:4], test.captions[:4]
    errors = []
    clean = pipe.autoencoder.decode(pipe.autoencoder.encode(images.astype(np.float32) / 127.5 - 1))
    reconstructed = np.rint((clean.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    for steps in (5, 50):
        noise = pipe.invert(images, prompts, steps)
        assert noise.shape == (4, 8, 8, 4) and noise.dtype == np.float32
        errors.append(difference(reconstruct(pipe, noise, prompts, steps), reconstructed))
    assert errors[1] < 0.6 * errors[0], errors


def test_who_says_no_seed_gets_0(pipe, dress):
    same = [
        (pipe.edit(dress, PROMPT, steps=2), pipe.edit(dress, PROMPT, steps=2, seed=0)),
        (pipe.interpolate(PROMPT, count=2, steps=2), pipe.interpolate(PROMPT, count=2, steps=2, seed=0, to_seed=1)),
        (pipe.generate([PROMPT], 2), pipe.generate([PROMPT], 2, seed=0)),
    ]
    assert all(np.array_equal(one, other) for one, other in same)


def test_an_image_need_not_have_the_model_s_own_size(pipe, dress):
    """Wider than it is high, and a mask of its shape; what may not change comes back."""
    wide = np.concatenate([dress[0], dress[0][:, :16]], 1)
    mask = np.zeros((32, 48), bool)
    mask[8:24, 30:] = True
    edited = pipe.edit(wide, PROMPT, mask=mask, steps=3)
    assert edited.shape == (1, 32, 48, 3) and (edited[0][~mask] == wide[~mask]).all()
    assert (edited[0] != wide).any() and pipe.invert(wide, PROMPT, 2).shape == (1, 8, 12, 4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"strength": 0.0}, "strength must lie above 0"),
        ({"strength": 1.1}, "strength must lie above 0"),
        ({"images": np.zeros((1, 28, 28, 3), np.uint8)}, r"uint8 \(1, H, W, 3\), H and W multiples of 8; got uint8"),
        ({"images": np.zeros((1, 32, 32, 3), np.float32)}, "got float32"),
        ({"images": np.zeros((2, 32, 32, 3), np.uint8)}, "1 prompts need images"),
        ({"images": np.zeros((1, 0, 32, 3), np.uint8)}, "1 prompts need images"),
        ({"images": np.zeros((1, 3, 32, 32), np.uint8)}, "1 prompts need images"),
        ({"mask": np.ones((32, 32), np.uint8)}, "the mask is uint8"),
        ({"mask": np.ones((8, 8), bool)}, r"the mask is bool \(8, 8\)"),
        ({"prompts": ["a red zebra"]}, "zebra"),
    ],
)
def test_bad_input(pipe, dress, change, message):
    arguments = {"images": dress, "prompts": [PROMPT], **change}
    with pytest.raises(InputError, match=message):
        pipe.edit(**arguments)


@pytest.mark.parametrize("seed", ["7", None, 1.5, -1])
def test_a_seed_is_a_whole_number(pipe, seed):
    with pytest.raises(InputError, match=f"the seed must be a whole number, 0 or more, not {seed!r}"):
        pipe.generate(["a red dress on a white background"], steps=1, seed=seed)
    with pytest.raises(InputError, match=f"the seed must be a whole number, 0 or more, not {seed!r}"):
        pipe.interpolate("a red dress on a white background", steps=1, to_seed=seed)


def test_slerp_between_what_is_nearly_the_same():
    """Where rounding makes the cosine a little more than 1."""
    for seed in range(50):
        one = np.random.default_rng(seed).standard_normal((3, 7), np.float32)
        assert np.isfinite(slerp(one, one * np.float32(1.1), 0.5)).all()
