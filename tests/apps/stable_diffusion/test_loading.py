"""Loading Stable Diffusion's weights: what is another model is named, before anything is allocated."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import tinydiff
from tinydiff.apps.stable_diffusion import loading
from tinydiff.apps.stable_diffusion.loading import turned
from tinydiff.cli import main
from tinydiff.errors import InputError

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
    with pytest.raises(InputError, match=r"config.json: cannot be read \(.*No such file"):
        tinydiff.load(tmp_path)
    for part in loading.PARTS:
        (tmp_path / part / "config.json").write_text("[1]")
    with pytest.raises(InputError, match=r"config.json: holds a list, expected settings by name"):
        tinydiff.load(tmp_path)
    (tmp_path / "scheduler").mkdir()
    for part in (*loading.PARTS, "scheduler"):
        (tmp_path / part / ("scheduler_config.json" if part == "scheduler" else "config.json")).write_text("{}")
    with pytest.raises(InputError, match="the tokenizer is missing, the folder tokenizer"):
        tinydiff.load(tmp_path)
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"in_channels": 9}))
    with pytest.raises(InputError, match="an inpainting model"):
        tinydiff.load(tmp_path)
    for value in (-1, 2.5, "many", 10**9):
        (tmp_path / "unet" / "config.json").write_text(json.dumps({"num_attention_heads": value}))
        (tmp_path / "tokenizer").mkdir(exist_ok=True)
        (tmp_path / "text_encoder" / "config.json").write_text(
            json.dumps({"vocab_size": 9, "max_position_embeddings": 7})
        )
        with pytest.raises(InputError, match="num_attention_heads is .*, expected a whole number"):
            tinydiff.load(tmp_path)


def test_layouts():
    kernel = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)  # (K, C, KH, KW)
    assert turned("conv.weight", kernel, (5, 7, 3, 2))[4, 6, 2, 1] == kernel[1, 2, 4, 6]
    matrix = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(turned("linear.weight", matrix, (3, 2)), matrix.T)
    np.testing.assert_array_equal(turned("to_q.weight", matrix[:, :, None, None], (3, 2)), matrix.T)
    np.testing.assert_array_equal(turned("proj_in.weight", matrix, (1, 1, 3, 2))[0, 0], matrix.T)
    np.testing.assert_array_equal(turned("token_embedding.weight", matrix, (2, 3)), matrix)
    np.testing.assert_array_equal(turned("norm.bias", matrix[0], (3,)), matrix[0])
