"""What else a weight file can be: other models, additions to models and parts of them, told by names and shapes."""

import re
from collections.abc import Mapping
from pathlib import Path

from tinydiff.apps.stable_diffusion.stored import Stored
from tinydiff.errors import InputError

# What a file is if it has an array whose name fits: the first that does.
OTHERS = {
    r"\.lora_|^lora_|lora_(up|down|A|B)\.|\.hada_w1|\.lokr_w1|\.oft_diag": "a LoRA, which is an addition to a model",
    r"^motion_modules|\.motion_modules\.": "a motion module of AnimateDiff",
    r"^control_model\.|controlnet_|^control_add_embedding": "a ControlNet",
    r"^adapter\.|^body\.\d+\.in_conv": "a T2I adapter",
    r"^(image_proj|ip_adapter)\.|\.to_k_ip\.": "an IP adapter",
    r"^(string_to_param|emb_params|string_to_token)|^<.+>$|^clip_[lg]$": "a textual inversion",
    r"^conditioner\.|(^|\.)add_embedding\.|label_emb": "Stable Diffusion XL",
    r"^cond_stage_model\.model\.": "Stable Diffusion 2",
    r"joint_blocks|joint_transformer_blocks|^text_encoders\.": "Stable Diffusion 3",
    r"double_blocks|single_transformer_blocks": "Flux",
    r"^(model\.diffusion_model\.)?(caption_projection|adaln_single)": "PixArt",
    r"^(prior|decoder)\.(effnet|clip_img)|effnet_mapper": "Stable Cascade",
}
# By the channels that its U-Net takes.
CHANNELS = {
    9: "an inpainting model",
    8: "a model that follows instructions (InstructPix2Pix)",
    5: "a model that is conditioned on depth",
    7: "an upscaler",
    3: "a model of pixels",
}
TEXT_WIDTHS = {1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL", 1280: "the refiner of Stable Diffusion XL"}
PARTS_ALONE = {
    r"^(decoder|encoder)\.": "an autoencoder alone",
    r"^(down_blocks|input_blocks)\.": "a U-Net alone",
    r"^text_model\.": "a text encoder alone",
    r"^safety_checker|^vision_model\.": "a safety checker",
}


def check_kind(path: Path, arrays: Mapping[str, Stored]) -> None:
    """Raises InputError where arrays are known to be something else than Stable Diffusion 1.x, and says what."""

    def refuse(what: str) -> None:
        raise InputError(f"{path}: {what}; expected Stable Diffusion 1.x")

    for pattern, what in OTHERS.items():
        if any(re.search(pattern, name) for name in arrays):
            refuse(what)
    for name, array in arrays.items():
        first = name.endswith(("diffusion_model.input_blocks.0.0.weight", "conv_in.weight")) and len(array.shape) == 4
        if first and "coder." not in name and array.shape[1] in CHANNELS:
            refuse(CHANNELS[array.shape[1]])
        if name.endswith("attn2.to_k.weight") and array.shape[-1] in TEXT_WIDTHS:
            refuse(TEXT_WIDTHS[array.shape[-1]])


def check_unet_channels(path: Path, in_channels: object) -> None:
    """The same, from the number in a U-Net's config.json."""
    if isinstance(in_channels, int) and in_channels in CHANNELS:
        raise InputError(f"{path}: {CHANNELS[in_channels]}; expected Stable Diffusion 1.x")


def part_alone(arrays: Mapping[str, Stored]) -> str:
    """What a file without a whole model is, as far as its names tell."""
    found = (what for pattern, what in PARTS_ALONE.items() if any(re.search(pattern, name) for name in arrays))
    return next(found, "no whole model")
