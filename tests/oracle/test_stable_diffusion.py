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

import safetensors.torch  # noqa: E402

import tinydiff  # noqa: E402
from tinydiff.apps.stable_diffusion import loading  # noqa: E402
from tinydiff.apps.stable_diffusion.byte_pair import CLIPTokenizer  # noqa: E402
from tinydiff.apps.stable_diffusion.names import from_compvis  # noqa: E402
from tinydiff.diffusion import Options  # noqa: E402
from tinydiff.models import Autoencoder, AutoencoderConfig, TextEncoderConfig, UNet, UNetConfig  # noqa: E402

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
    return pipeline(stirred(vae), stirred(transformers.CLIPTextModel(text)), stirred(unet), tmp_path_factory)


def pipeline(vae, text_encoder, unet, tmp_path_factory):
    """diffusers', with CLIP's own tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    words = CLIPTokenizer()
    lines = ["#version: 0.2", *(" ".join(pair) for pair in words.merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(words.ids), encoding="utf-8")
    return diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=transformers.CLIPTokenizer.from_pretrained(str(folder), model_max_length=77),
        unet=unet,
        scheduler=diffusers.PNDMScheduler(**SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="module", params=["float16", pytest.param("float32", marks=pytest.mark.slow)])
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


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    """Stable Diffusion 1.5's own sizes, 1,066 million random numbers as float16: diffusers' pipeline and ours."""
    torch.manual_seed(1)
    text = transformers.CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        max_position_embeddings=77, hidden_act="quick_gelu",
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
    )  # fmt: skip
    parts = vae.eval(), transformers.CLIPTextModel(text).eval(), unet.eval()
    theirs = pipeline(*(part.half() for part in parts), tmp_path_factory)
    folder = tmp_path_factory.mktemp("full")
    theirs.save_pretrained(folder, variant="fp16")
    for part in parts:
        part.float()
    theirs.set_progress_bar_config(disable=True)
    return theirs, tinydiff.load(folder)


@pytest.mark.slow
@pytest.mark.parametrize("sampler, steps", [("plms", 4), ("ddim", 3), ("dpm", 3)])
def test_from_text_at_full_size(full_size, sampler, steps):
    """All 1,066 million of them, at 256×256 so that a test takes a minute."""
    theirs, ours = full_size
    options, last = configured(theirs, sampler), Last()
    asked = dict(num_inference_steps=steps, guidance_scale=7.5, negative_prompt=NEGATIVE, height=256, width=256)
    expected = [
        theirs(PROMPT, **asked, generator=torch.Generator().manual_seed(3), output_type=kind)
        for kind in ("latent", "pil")
    ]
    options = Options(spacing=options.spacing, callback=last)
    asked = dict(sampler=sampler, negative_prompt=NEGATIVE, seed=3, options=options, height=256, width=256)
    images = ours.generate([PROMPT], steps, **asked)
    assert_same(last.latents, images, expected[0].images, expected[1])


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_from_an_image_at_full_size(full_size, masked):
    theirs, ours = full_size
    configured(theirs, "ddim")
    ramp = np.linspace(0, 255, 256)
    photo = np.stack([ramp[:, None] + 0 * ramp, 0 * ramp[:, None] + ramp, np.full((256, 256), 90)], -1).astype(np.uint8)
    mask = np.zeros((256, 256), bool)
    mask[64:192, 80:240] = True
    kind = diffusers.StableDiffusionInpaintPipeline if masked else diffusers.StableDiffusionImg2ImgPipeline
    other = kind(**theirs.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    page = [Image.fromarray(mask.astype(np.uint8) * 255)] if masked else []
    asked = dict(strength=0.75, num_inference_steps=4, guidance_scale=7.5, generator=torch.Generator().manual_seed(2))
    asked |= dict(height=256, width=256) if masked else {}
    expected = images_of(other(PROMPT, Image.fromarray(photo), *page, **asked))
    images = ours.edit(photo, PROMPT, strength=0.75, mask=mask if masked else None, steps=4, sampler="ddim", seed=2)
    where = mask if masked else np.ones_like(mask)
    assert abs(images.astype(int) - expected)[:, where].max() <= 2


def compvis_unet():
    """The U-Net's arrays in a single file, without `.weight` and `.bias`."""
    resnet = ["in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"]
    attention = [f"{a}.{p}" for a in ("attn1", "attn2") for p in ("to_q", "to_k", "to_v", "to_out.0")]
    block = [*attention, "norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2"]
    transformer = ["norm", "proj_in", "proj_out", *(f"transformer_blocks.0.{name}" for name in block)]
    for i in range(1, 12):
        level, layer = divmod(i - 1, 3)
        if layer == 2:
            yield f"input_blocks.{i}.0.op"
            continue
        yield from (f"input_blocks.{i}.0.{name}" for name in resnet + ["skip_connection"] * (i in (4, 7)))
        yield from (f"input_blocks.{i}.1.{name}" for name in transformer * (level < 3))
    yield from (f"middle_block.{i}.{name}" for i in (0, 2) for name in resnet)
    yield from (f"middle_block.1.{name}" for name in transformer)
    for i in range(12):
        yield from (f"output_blocks.{i}.0.{name}" for name in [*resnet, "skip_connection"])
        yield from (f"output_blocks.{i}.1.{name}" for name in transformer * (i > 2))
        yield from [f"output_blocks.{i}.{1 if i == 2 else 2}.conv"] * (i in (2, 5, 8))
    yield from ("time_embed.0", "time_embed.2", "input_blocks.0.0", "out.0", "out.2")


def compvis_vae():
    resnet = ["norm1", "conv1", "norm2", "conv2"]
    for side, count in (("encoder", 2), ("decoder", 3)):
        yield from (f"{side}.{name}" for name in ("conv_in", "conv_out", "norm_out"))
        yield from (f"{side}.mid.block_{i}.{name}" for i in (1, 2) for name in resnet)
        yield from (f"{side}.mid.attn_1.{name}" for name in ("norm", "q", "k", "v", "proj_out"))
        way = "down" if side == "encoder" else "up"
        for level in range(4):
            yield from (f"{side}.{way}.{level}.block.{i}.{name}" for i in range(count) for name in resnet)
        yield from (f"{side}.{way}.{level}.{way}sample.conv" for level in ((0, 1, 2) if way == "down" else (1, 2, 3)))
    yield from ("encoder.down.1.block.0.nin_shortcut", "encoder.down.2.block.0.nin_shortcut")
    yield from ("decoder.up.0.block.0.nin_shortcut", "decoder.up.1.block.0.nin_shortcut")
    yield from ("quant_conv", "post_quant_conv")


def compvis_names():
    """Each array's name in a single file."""
    no_bias = ("to_q", "to_k", "to_v")
    for prefix, names in (("model.diffusion_model.", compvis_unet()), ("first_stage_model.", compvis_vae())):
        for name in names:
            yield f"{prefix}{name}.weight"
            if not name.endswith(no_bias):
                yield f"{prefix}{name}.bias"


def test_compvis_names_are_those_that_diffusers_finds():
    """By its own conversion; and they are all that our U-Net and autoencoder have."""
    from diffusers.loaders import single_file_utils as utils

    names = list(compvis_names())
    file = {name: torch.full((1, 1, 1, 1), float(i)) for i, name in enumerate(names)}
    settings = {"layers_per_block": 2, "down_block_types": [0] * 4, "class_embed_type": None}
    found = {
        "unet": utils.convert_ldm_unet_checkpoint(dict(file), {**settings, "addition_embed_type": None}),
        "vae": utils.convert_ldm_vae_checkpoint(dict(file), {"down_block_types": [0] * 4, "up_block_types": [0] * 4}),
    }
    theirs = {(part, name): int(a.flatten()[0]) for part, arrays in found.items() for name, a in arrays.items()}
    ours = {(part, own): names.index(name) for part, own, name in from_compvis(names)}
    assert ours == theirs and len(ours) == len(names)
    models = {"unet": UNet(UNetConfig(), None), "vae": Autoencoder(AutoencoderConfig(), None)}
    assert set(ours) == {(part, name) for part, model in models.items() for name, _ in model.named_parameters()}


def test_a_single_file_is_the_folder(theirs, tmp_path, monkeypatch):
    """The same random weights as a checkpoint of PyTorch, in half precision, with an EMA and buffers beside them."""
    # Stable Diffusion's own number of levels, as the names of single files have it, but narrow.
    torch.manual_seed(1)
    unet = stirred(
        diffusers.UNet2DConditionModel(block_out_channels=(8, 8, 16, 16), norm_num_groups=4, cross_attention_dim=32)
    )
    vae = stirred(
        diffusers.AutoencoderKL(
            block_out_channels=(8, 16, 16, 16),
            layers_per_block=2,
            norm_num_groups=4,
            latent_channels=4,
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
        )  # fmt: skip
    )
    parts = {"unet": unet.half().state_dict(), "vae": vae.half().state_dict()}
    arrays = {name: parts[part][own] for part, own, name in from_compvis(compvis_names()) if own in parts[part]}
    arrays |= {f"cond_stage_model.transformer.{k}": a for k, a in theirs.text_encoder.state_dict().items()}
    arrays |= {"model_ema.decay": torch.tensor(0.99), "betas": torch.ones(1000, dtype=torch.float64)}
    q = "first_stage_model.encoder.mid.attn_1.q.weight"
    arrays[q] = arrays[q][:, :, None, None]  # there a 1×1 convolution
    monkeypatch.setattr(loading, "TEXT", TextEncoderConfig(49408, 77, 32, 2, 4, "quick_gelu", True))
    small = UNetConfig(4, 4, (8, 8, 16, 16), norm_num_groups=4, cross_attention_dim=32)
    monkeypatch.setattr(loading, "UNetConfig", lambda: small)
    autoencoder = AutoencoderConfig(block_out_channels=(8, 16, 16, 16), norm_num_groups=4)
    monkeypatch.setattr(loading, "AutoencoderConfig", lambda: autoencoder)
    torch.save({"state_dict": arrays, "global_step": 7}, tmp_path / "sd.ckpt")
    safetensors.torch.save_file({name: a.contiguous() for name, a in arrays.items()}, tmp_path / "sd.safetensors")
    x, t = torch.randn(2, 4, 16, 16), torch.tensor([7, 7])
    text = torch.randn(2, 77, 32)
    expected = unet.float()(x, t, text).sample.detach().numpy().transpose(0, 2, 3, 1)
    image = torch.randn(1, 3, 64, 64)
    latents = vae.float().encode(image).latent_dist.mean.detach().numpy().transpose(0, 2, 3, 1) * 0.18215
    for name in ("sd.ckpt", "sd.safetensors"):
        pipe = tinydiff.load(tmp_path / name)
        ours = pipe.predict(x.numpy().transpose(0, 2, 3, 1), 7, text.numpy())
        assert abs(ours - expected).max() <= 2e-5 * abs(expected).max()
        ours = pipe.autoencoder.encode(np.ascontiguousarray(image.numpy().transpose(0, 2, 3, 1)))
        assert abs(ours - latents).max() <= 2e-5 * abs(latents).max()
