"""Stable Diffusion whole, against diffusers' own pipelines: random weights, the same prompt, seed and settings.

diffusers' PNDM in image to image slices its list of 51 timesteps but keeps its special second call, so that its samples
lag a step: there ours keeps to the rule, and DDIM and DPM-Solver++ are compared.
"""

import json
import os

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched
torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

import tinydiff  # noqa: E402
from tinydiff.apps.stable_diffusion.names import from_compvis  # noqa: E402
from tinydiff.datasets.byte_pair import CLIPTokenizer  # noqa: E402
from tinydiff.diffusion import Options  # noqa: E402

PROMPT, NEGATIVE = "a photograph of an astronaut riding a horse, 35mm!", "blurry"
SIZE = 64  # pixels of an image, and with three levels of the autoencoder 16 of a latent
SCHEDULER = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, set_alpha_to_one=False,
    skip_prk_steps=True, prediction_type="epsilon",
)  # fmt: skip


def stirred(module, scale=0.02):
    """Random weights, of which none is zero: that would hide what lies behind it."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return module.eval()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tokenizer")
    words = CLIPTokenizer()
    lines = ["#version: 0.2", *(" ".join(pair) for pair in words.merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(words.ids), encoding="utf-8")
    text = transformers.CLIPTextConfig(
        vocab_size=49408, hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, hidden_act="quick_gelu",
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64), layers_per_block=2, norm_num_groups=8, attention_head_dim=4,
        cross_attention_dim=32, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(16, 32, 32), layers_per_block=1, norm_num_groups=8, latent_channels=4, sample_size=SIZE,
        down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3,
    )  # fmt: skip
    return diffusers.StableDiffusionPipeline(
        vae=stirred(vae),
        text_encoder=stirred(transformers.CLIPTextModel(text)),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(str(folder), model_max_length=77),
        unet=stirred(unet),
        scheduler=diffusers.PNDMScheduler(**SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="module", params=["float32", "float16"])
def both(theirs, tmp_path_factory, request):
    """diffusers' pipeline, and what `tinydiff.load` makes of the folder that it saves."""
    folder = tmp_path_factory.mktemp("saved")
    if request.param == "float16":  # what the file holds is what both compute with
        for part in (theirs.unet, theirs.vae, theirs.text_encoder):
            part.half()
    variant = {"variant": "fp16"} if request.param == "float16" else {}
    theirs.save_pretrained(folder, **variant)
    for part in (theirs.unet, theirs.vae, theirs.text_encoder):
        part.float()
    theirs.set_progress_bar_config(disable=True)
    return theirs, tinydiff.load(folder)


KINDS = {
    "plms": (diffusers.PNDMScheduler, {}),
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "dpm": (diffusers.DPMSolverMultistepScheduler, {"timestep_spacing": "trailing"}),
}


def configured(theirs, sampler):
    kind, changed = KINDS[sampler]
    theirs.scheduler = kind.from_config({**SCHEDULER, **changed})
    return Options(spacing=changed.get("timestep_spacing"))


class Last:
    """Keeps the last latents that a loop had."""

    def __call__(self, done, x, x0):
        self.latents = x


def images_of(found):
    return np.stack([np.asarray(image) for image in found.images])


def assert_same(latents, images, theirs_latents, theirs_images):
    expected = theirs_latents.numpy().transpose(0, 2, 3, 1)
    assert abs(latents - expected).max() <= 1e-3 * expected.std()
    assert abs(images.astype(int) - images_of(theirs_images)).max() <= 2


@pytest.mark.parametrize("sampler, steps", [("plms", 10), ("ddim", 10), ("dpm", 8)])
def test_from_text(both, sampler, steps):
    theirs, ours = both
    options, last = configured(theirs, sampler), Last()
    asked = dict(num_inference_steps=steps, guidance_scale=7.5, negative_prompt=NEGATIVE)
    expected = [
        theirs(PROMPT, **asked, generator=torch.Generator().manual_seed(3), output_type=kind)
        for kind in ("latent", "pil")
    ]
    options = Options(spacing=options.spacing, callback=last)
    images = ours.generate([PROMPT], steps, sampler=sampler, negative_prompt=NEGATIVE, seed=3, options=options)
    assert_same(last.latents, images, expected[0].images, expected[1])


def test_the_models_own_settings(both):
    theirs, ours = both
    configured(theirs, "plms")
    expected = theirs(PROMPT, generator=torch.Generator().manual_seed(5), height=64, width=128)
    images = ours.generate([PROMPT], seed=5, height=64, width=128)
    assert images.shape == (1, 64, 128, 3)
    assert abs(images.astype(int) - images_of(expected)).max() <= 2


@pytest.fixture(scope="module")
def photo():
    ramp = np.linspace(0, 255, SIZE)
    return np.stack([ramp[:, None] + 0 * ramp, 0 * ramp[:, None] + ramp, np.full((SIZE, SIZE), 90)], -1).astype(
        np.uint8
    )


@pytest.mark.parametrize("sampler", ["ddim", "dpm"])
def test_from_an_image(both, photo, sampler, monkeypatch):
    theirs, ours = both
    spacing = configured(theirs, sampler).spacing
    if spacing:
        monkeypatch.setattr(ours, "schedule", ours.schedule.__class__("", ours.schedule.alpha_bar, spacing, 1, False))
    other = diffusers.StableDiffusionImg2ImgPipeline(**theirs.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    asked = dict(strength=0.75, num_inference_steps=8, guidance_scale=7.5)
    expected = other(PROMPT, Image.fromarray(photo), **asked, generator=torch.Generator().manual_seed(2))
    images = ours.edit(photo, PROMPT, strength=0.75, steps=8, sampler=sampler, seed=2)
    assert abs(images.astype(int) - images_of(expected)).max() <= 2


def test_inpainting(both, photo):
    theirs, ours = both
    configured(theirs, "ddim")
    other = diffusers.StableDiffusionInpaintPipeline(**theirs.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[16:48, 20:60] = True
    page = Image.fromarray(mask.astype(np.uint8) * 255)
    asked = dict(strength=0.75, num_inference_steps=8, guidance_scale=7.5, generator=torch.Generator().manual_seed(2))
    expected = other(PROMPT, Image.fromarray(photo), page, **asked)
    images = ours.edit(photo, PROMPT, strength=0.75, mask=mask, steps=8, sampler="ddim", seed=2)
    assert abs(images.astype(int) - images_of(expected))[:, mask].max() <= 2
    assert (images[0][~mask] == photo[~mask]).all()


def test_the_other_methods_work(both):
    _, ours = both
    assert ours.interpolate(PROMPT, "a cat", count=3, steps=2).shape == (3, SIZE, SIZE, 3)
    image = ours.generate([PROMPT], 2)
    noise = ours.invert(image, PROMPT, 3)
    assert ours.reconstruct(noise, PROMPT, 3).shape == image.shape
    found = ours.attention_maps("a photo of a cat", steps=2)
    assert found.words == ["a", "photo", "of", "a", "cat"] and found.maps.shape == (2, 5, 16, 16)


def test_compvis_names_are_those_that_diffusers_finds():
    """All 1,131 of a single file, by diffusers' own conversion."""
    from diffusers.loaders import single_file_utils as utils

    unet = utils.convert_ldm_unet_checkpoint
    assert callable(unet) and callable(from_compvis)
