"""The names of Stable Diffusion 1.x's arrays: CompVis's, in single files, and diffusers', which are ours."""

import re
from collections.abc import Iterable, Iterator

# A name's beginning in a single file, and the part of the model that it belongs to.
PREFIXES = {
    "model.diffusion_model.": "unet",
    "first_stage_model.": "vae",
    "cond_stage_model.transformer.text_model.": "text_encoder",
    "cond_stage_model.transformer.": "text_encoder",  # older files
}
BLOCK = {  # within a residual block of the U-Net
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
OLDER_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of diffusers' folders
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
LAYERS = 2  # residual blocks a level going down, of every 1.x


def from_compvis(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(part, our name, name in the file) of each array that a model needs; EMA copies and buffers are left out."""
    for name in names:
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is not None and not name.endswith("position_ids"):
            part, own = PREFIXES[prefix], name.removeprefix(prefix)
            yield part, unet_name(own) if part == "unet" else autoencoder_name(own) if part == "vae" else own, name


def unet_name(name: str) -> str:
    """`input_blocks.1.0.in_layers.2.weight` → `down_blocks.0.resnets.0.conv1.weight`."""
    whole = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }
    stem, _, kind = name.rpartition(".")
    if stem in whole:
        return f"{whole[stem]}.{kind}"
    if found := re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)", name):
        side, block, place, rest = found[1], int(found[2]), int(found[3]), found[4]
        level, layer = divmod(block - 1, LAYERS + 1) if side == "input" else divmod(block, LAYERS + 1)
        at = f"{'down' if side == 'input' else 'up'}_blocks.{level}"
        if rest.startswith("op."):
            return f"{at}.downsamplers.0.conv.{kind}"
        if rest.startswith("conv."):
            return f"{at}.upsamplers.0.conv.{kind}"
        return f"{at}.attentions.{layer}.{rest}" if place else f"{at}.resnets.{layer}.{_block(rest)}"
    if found := re.fullmatch(r"middle_block\.(\d)\.(.+)", name):
        place, rest = int(found[1]), found[2]
        return f"mid_block.attentions.0.{rest}" if place == 1 else f"mid_block.resnets.{place // 2}.{_block(rest)}"
    return name


def _block(rest: str) -> str:
    stem, _, kind = rest.rpartition(".")
    return f"{BLOCK.get(stem, stem)}.{kind}"


def autoencoder_name(name: str, levels: int = 4) -> str:
    """`decoder.up.3.block.0.nin_shortcut.weight` → `decoder.up_blocks.0.resnets.0.conv_shortcut.weight`."""
    name = name.replace("nin_shortcut", "conv_shortcut").replace(".norm_out.", ".conv_norm_out.")
    name = re.sub(r"\.mid\.block_(\d)", lambda m: f".mid_block.resnets.{int(m[1]) - 1}", name)
    name = re.sub(r"\.mid\.attn_1\.(\w+)", lambda m: f".mid_block.attentions.0.{ATTENTION[m[1]]}", name)
    name = re.sub(r"\.down\.(\d)\.block\.", r".down_blocks.\1.resnets.", name)
    name = re.sub(r"\.down\.(\d)\.downsample\.", r".down_blocks.\1.downsamplers.0.", name)
    name = re.sub(r"\.up\.(\d)\.block\.", lambda m: f".up_blocks.{levels - 1 - int(m[1])}.resnets.", name)
    return re.sub(r"\.up\.(\d)\.upsample\.", lambda m: f".up_blocks.{levels - 1 - int(m[1])}.upsamplers.0.", name)


def from_diffusers(part: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(our name, name in the file) of each array of a folder's part, with what older versions called otherwise."""
    for name in names:
        if not name.endswith("position_ids"):
            own = name.removeprefix("text_model.") if part == "text_encoder" else name
            if part == "vae":
                own = re.sub(r"(attentions\.0\.)(query|key|value|proj_attn)\b", _newer, own)
            yield own, name


def _newer(found: re.Match) -> str:
    return found[1] + OLDER_ATTENTION[found[2]]
