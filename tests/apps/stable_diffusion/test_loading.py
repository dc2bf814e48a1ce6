"""Loading Stable Diffusion's weights: what is another model is named, before anything is allocated."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tinydiff
from tinydiff.apps.stable_diffusion import loading
from tinydiff.apps.stable_diffusion.byte_pair import CLIPTokenizer
from tinydiff.apps.stable_diffusion.loading import turned
from tinydiff.cli import main
from tinydiff.errors import InputError
from tinydiff.models import Autoencoder, AutoencoderConfig, TextEncoder, TextEncoderConfig, UNet, UNetConfig

SMALL_UNET = UNetConfig(4, 4, (8, 16), 1, ("CrossAttnDownBlock2D", "DownBlock2D"), 2, 4, 8)
SMALL_VAE = AutoencoderConfig(3, 4, (8, 8), 1, 4)
SMALL_TEXT = TextEncoderConfig(49408, 77, 8, 1, 2, "quick_gelu", True)
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."

# Names of arrays, with their shapes, and what their file is called.
OTHERS = {
    "a LoRA": ({"lora_unet_down_blocks_0.lora_down.weight": (4, 320)}, "a LoRA"),
    "a ControlNet": ({"control_model.zero_convs.0.0.weight": (4, 4)}, "a ControlNet"),
    "an inversion": ({"emb_params": (2, 768)}, "a textual inversion"),
    "XL": ({"conditioner.embedders.0.weight": (4, 4)}, "Stable Diffusion XL"),
    "2": ({"cond_stage_model.model.ln_final.weight": (1024,)}, "Stable Diffusion 2;"),
    "2, by its shapes": (
        {f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024)},
        "Stable Diffusion 2;",
    ),
    "an adapter": ({"image_proj.proj.weight": (4, 4)}, "an IP adapter"),
    "motion": ({"down_blocks.0.motion_modules.0.x": (4, 4)}, "a motion module"),
    "the refiner": ({"a.attn2.to_k.weight": (4, 1280)}, "the refiner of Stable Diffusion XL"),
    "an embedding": ({"<cat-toy>": (768,)}, "a textual inversion"),
    "a U-Net": ({"down_blocks.0.resnets.0.norm1.weight": (4,)}, "a U-Net alone; the U-Net and"),
    "an upscaler": ({f"{UNET}input_blocks.0.0.weight": (320, 7, 3, 3)}, "an upscaler"),
    "depth": ({f"{UNET}input_blocks.0.0.weight": (320, 5, 3, 3)}, "conditioned on depth"),
    "3": ({"joint_blocks.0.weight": (4, 4)}, "Stable Diffusion 3"),
    "inpainting": ({f"{UNET}input_blocks.0.0.weight": (320, 9, 3, 3)}, "an inpainting model"),
    "instructions": ({f"{UNET}input_blocks.0.0.weight": (320, 8, 3, 3)}, "InstructPix2Pix"),
    "an autoencoder": ({"decoder.conv_in.weight": (4, 4, 3, 3)}, "an autoencoder alone; the U-Net and"),
    "half a model": ({f"{UNET}out.0.weight": (320,)}, "no whole model; the autoencoder and the text encoder"),
    "wrong shapes": (
        {f"{UNET}out.0.weight": (3,), f"{VAE}quant_conv.bias": (8,), f"{TEXT}final_layer_norm.bias": (768,)},
        "the U-Net has no array conv_in.weight",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_model_is_named(tmp_path, what):
    shapes, message = OTHERS[what]
    save_file({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        tinydiff.load(tmp_path / "model.safetensors")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_the_command_line_says_it_in_one_line(tmp_path, capsys):
    (tmp_path / "model.safetensors").write_text("<!DOCTYPE html>")
    assert main(["generate", "a cat", "--weights", str(tmp_path / "model.safetensors")]) == 2
    assert capsys.readouterr().err == (
        f"tinydiff: {tmp_path / 'model.safetensors'}: a web page, not weights; download the file itself\n"
    )


def test_a_folder_in_which_something_is_missing(tmp_path):
    (tmp_path / "unet").mkdir()
    with pytest.raises(InputError, match="unet: no weights; expected"):
        tinydiff.load(tmp_path)
    for part in loading.PARTS:
        (tmp_path / part).mkdir(exist_ok=True)
        save_file({"conv_in.weight": np.zeros((4, 4, 3, 3), np.float32)}, tmp_path / part / "model.safetensors")
    with pytest.raises(InputError, match="the tokenizer is missing, the folder tokenizer"):
        tinydiff.load(tmp_path)
    (tmp_path / "tokenizer").mkdir()
    with pytest.raises(InputError, match=r"config.json: cannot be read \(.*No such file"):
        tinydiff.load(tmp_path)
    for part in loading.PARTS:
        (tmp_path / part / "config.json").write_text("[1]")
    with pytest.raises(InputError, match=r"config.json: holds a list, expected settings by name"):
        tinydiff.load(tmp_path)


PARTS = {"unet": (UNet, SMALL_UNET), "vae": (Autoencoder, SMALL_VAE), "text_encoder": (TextEncoder, SMALL_TEXT)}


def as_pytorch_has_it(name, array):
    if name.endswith("embedding.weight") or array.ndim == 1:
        return array
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory):
    """A folder as diffusers writes it, of a small model with random weights."""
    folder, rng = tmp_path_factory.mktemp("whole"), np.random.default_rng(0)
    for part, (model, config) in PARTS.items():
        (folder / part).mkdir()
        arrays = {name: rng.standard_normal(p.shape) * 0.05 for name, p in model(config, None).named_parameters()}
        arrays = {name: as_pytorch_has_it(name, a.astype(np.float16)) for name, a in arrays.items()}
        save_file(arrays, folder / part / "model.safetensors")
        (folder / part / "config.json").write_text(json.dumps(asdict(config)))
    (folder / "tokenizer").mkdir()
    words = CLIPTokenizer()
    lines = ["#version: 0.2", *(" ".join(pair) for pair in words.merges)]
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(words.ids), encoding="utf-8")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    return folder


@pytest.fixture
def folder(whole_folder, tmp_path):
    return shutil.copytree(whole_folder, tmp_path / "model")


def change(folder, part, **settings):
    path = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_a_folder_is_loaded_and_its_files_may_then_go(folder):
    pipe = tinydiff.load(folder)
    images = pipe.generate(["a cat"], 2, seed=3)
    assert images.shape == (1, 128, 128, 3)
    shutil.rmtree(folder)
    np.testing.assert_array_equal(images, pipe.generate(["a cat"], 2, seed=3))
    for parameter in pipe.denoiser.parameters():
        base = parameter.data
        while base is not None:  # nothing lies in the file's own pages
            assert not isinstance(base, np.memmap)
            base = getattr(base, "base", None)


def test_a_part_in_several_files(folder, whole_folder):
    arrays = load_file(folder / "unet" / "model.safetensors")
    (folder / "unet" / "model.safetensors").unlink()
    halves = {f"diffusion-0000{i}-of-00002.safetensors": list(arrays)[i - 1 :: 2] for i in (1, 2)}
    for file, names in halves.items():
        save_file({name: arrays[name] for name in names}, folder / "unet" / file)
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, names in halves.items() for name in names}}))
    ours, expected = tinydiff.load(folder).denoiser.state_dict(), tinydiff.load(whole_folder).denoiser.state_dict()
    assert all((ours[name] == array).all() for name, array in expected.items())
    index.write_text(json.dumps({"weight_map": {"a": "../secret"}}))
    with pytest.raises(InputError, match="points to '../secret', out of its folder"):
        tinydiff.load(folder)
    index.write_text("{}")
    with pytest.raises(InputError, match="has no weight_map"):
        tinydiff.load(folder)


SETTINGS = {
    "another activation": ("unet", {"act_fn": "mish"}, "act_fn is 'mish', expected 'silu'"),
    "another epsilon": ("unet", {"norm_eps": 1e-6}, "norm_eps is 1e-06, expected 1e-05"),
    "sines before cosines": ("unet", {"flip_sin_to_cos": False}, "flip_sin_to_cos is False"),
    "classes": ("unet", {"num_class_embeds": 10}, "num_class_embeds is 10, expected None"),
    "blocks": ("unet", {"down_block_types": ["AttnDownBlock2D"]}, "expected CrossAttnDownBlock2D and DownBlock2D"),
    "blocks upwards": ("unet", {"up_block_types": ["UpBlock2D"] * 2}, "up_block_types is"),
    "heads": ("unet", {"num_attention_heads": -1}, "num_attention_heads is -1, expected a whole number"),
    "no list": ("unet", {"block_out_channels": 3}, "block_out_channels is 3, expected a whole number at each level"),
    "many levels": ("unet", {"block_out_channels": [8] * 99}, "has 99 levels, expected 1 to 16"),
    "many layers": ("unet", {"layers_per_block": 10**5}, "layers_per_block is 100000, expected a whole number"),
    "a size": ("unet", {"sample_size": 13}, "sample_size is 13, expected a multiple of 2"),
    "inpainting": ("unet", {"in_channels": 9}, "an inpainting model"),
    "a shift": ("vae", {"shift_factor": 0.1}, "shift_factor is 0.1, expected None"),
    "no quantisation": ("vae", {"use_quant_conv": False}, "use_quant_conv is False, expected True"),
    "blocks of images": ("vae", {"up_block_types": ["Other"]}, "expected UpDecoderBlock2D at each level"),
    "a factor": ("vae", {"scaling_factor": "much"}, "scaling_factor is 'much', expected a number above 0"),
    "an activation": ("text_encoder", {"hidden_act": "relu"}, "hidden_act is 'relu', expected 'gelu'"),
    "a wide layer": ("text_encoder", {"intermediate_size": 3}, "intermediate_size is 3, expected 4·hidden_size"),
    "clipping": ("scheduler", {"clip_sample": True}, "clip_sample is True, expected False"),
    "spacing": ("scheduler", {"timestep_spacing": "linspace"}, "timestep_spacing is 'linspace', expected 'trailing'"),
    "a schedule": ("scheduler", {"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid', expected linear"),
    "β": ("scheduler", {"beta_end": 2}, r"beta_start and beta_end are \(0.00085, 2\), expected two numbers between"),
    "trained β": ("scheduler", {"trained_betas": [0.1]}, r"trained_betas is \(1,\), expected 1000 numbers"),
    "an offset": ("scheduler", {"steps_offset": -1}, "steps_offset is -1, expected a whole number"),
    "a prediction": ("scheduler", {"prediction_type": "mean"}, "prediction_type"),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_settings_that_mean_other_numbers_are_refused(folder, what):
    part, settings, message = SETTINGS[what]
    change(folder, part, **settings)
    with pytest.raises(InputError, match=message) as caught:
        tinydiff.load(folder)
    assert "\n" not in str(caught.value) and f"{part}" in str(caught.value)


@pytest.mark.parametrize(
    "settings, betas",
    [
        ({"beta_start": 0.001, "beta_end": 0.02}, np.linspace(0.001**0.5, 0.02**0.5, 1000) ** 2),
        ({"beta_schedule": "linear", "num_train_timesteps": 500}, np.linspace(0.00085, 0.012, 500)),
        ({"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3}, np.array([0.1, 0.2, 0.3])),
    ],
)
def test_a_schedule_of_other_noise(folder, settings, betas):
    change(folder, "scheduler", **settings)
    np.testing.assert_allclose(tinydiff.load(folder).schedule.alpha_bar, np.cumprod(1 - betas), rtol=1e-12)


def test_layouts():
    kernel = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)  # (K, C, KH, KW)
    assert turned("conv.weight", kernel, (5, 7, 3, 2))[4, 6, 2, 1] == kernel[1, 2, 4, 6]
    matrix = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(turned("linear.weight", matrix, (3, 2)), matrix.T)
    np.testing.assert_array_equal(turned("to_q.weight", matrix[:, :, None, None], (3, 2)), matrix.T)
    np.testing.assert_array_equal(turned("proj_in.weight", matrix, (1, 1, 3, 2))[0, 0], matrix.T)
    np.testing.assert_array_equal(turned("token_embedding.weight", matrix, (2, 3)), matrix)
    np.testing.assert_array_equal(turned("norm.bias", matrix[0], (3,)), matrix[0])


def test_weights_stay_float16_until_they_are_used(folder):
    pipe = tinydiff.load(folder)
    stored = load_file(folder / "unet" / "model.safetensors")
    weight = pipe.denoiser.unet.conv_in.weight
    assert weight._kept.dtype == np.float16 and weight.dtype == np.float32 and weight.shape == (3, 3, 4, 8)
    expected = stored["conv_in.weight"].transpose(2, 3, 1, 0).astype(np.float32)
    np.testing.assert_array_equal(weight.data, expected)
    with tinydiff.use("numpy"):
        np.testing.assert_array_equal(weight.data, expected)
    weight.assign(2 * expected)  # float32 stays what it is
    np.testing.assert_array_equal(weight.data, 2 * expected)
    assert pipe.denoiser.unet.conv_in.bias._kept.dtype == np.float32


def test_float32_weights_lose_nothing(folder):
    arrays = {
        name: a.astype(np.float32) * np.float32(1.0001)
        for name, a in load_file(folder / "unet" / "model.safetensors").items()
    }
    save_file(arrays, folder / "unet" / "model.safetensors")
    weight = tinydiff.load(folder).denoiser.unet.conv_in.weight.data
    np.testing.assert_array_equal(weight, arrays["conv_in.weight"].transpose(2, 3, 1, 0))
