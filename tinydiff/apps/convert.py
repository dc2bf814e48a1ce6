"""Weights and checkpoints of tinydiff 0.1, brought to the names that configurations have now: `tinydiff convert`.

The arrays stay bit for bit what they were; fields are renamed in the header.
"""

import contextlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tinydiff import checkpoint
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import AutoencoderConfig
from tinydiff.models.unet import CROSS_ATTENTION, PLAIN

LEVELS = {"widths": "block_out_channels", "layers": "layers_per_block", "groups": "norm_num_groups"}
FIELDS: dict[str, Mapping[str, str]] = {  # of each configuration, by the part that it belongs to
    "autoencoder": {**LEVELS, "channels": "in_channels", "attention": "mid_block_add_attention"},
    "unet": {**LEVELS, "heads": "num_attention_heads", "text_width": "cross_attention_dim"},
    "text_encoder": {
        **{"vocabulary": "vocab_size", "length": "max_position_embeddings", "width": "hidden_size"},
        **{"layers": "num_hidden_layers", "heads": "num_attention_heads"},
    },
    "classifier": LEVELS,
    "segmentation": {"channels": "in_channels", "classes": "num_classes", "widths": "block_out_channels"},
    "augmentation": {"bend": "elastic_sigma"},
    "training": {"judged": "validation_iou"},
    "run": {"strip": "validation_strip"},
}
PARTS = {"judge": "classifier"}
SCHEDULES = {"cosine": "squaredcos_cap_v2", "deblend": "iadb"}
PREDICTIONS = {"v": "v_prediction"}


def convert(folder: str | Path, say: Callable[[str], None] = print) -> list[Path]:
    """Convert each file of version 0.1 in a folder, in place; returns the files as they are called now.

    A file is replaced only once its successor is whole.  Raises InputError where the folder holds nothing to convert.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"convert: {folder} is no folder")
    converted = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            arrays, config = checkpoint.load(path, version="1")
        except InputError:
            continue  # of this version, or not tinydiff's
        part, dot, rest = path.name.partition(".")
        target = path.with_name(PARTS.get(part, part) + dot + rest)
        if target != path and target.exists():
            raise InputError(f"convert: {target} is there already; move it, or {path}")
        kept = {re.sub("^average/", "ema/", name): array for name, array in arrays.items()}
        checkpoint.save(target, kept, run_state(config) if "identity" in config else weights_config(config))
        if target != path:
            path.unlink()
            with contextlib.suppress(FileNotFoundError):
                (folder / f"{part}.csv").rename(folder / f"{PARTS[part]}.csv")
        say(f"{path}: converted{f', now {target.name}' if target != path else ''}")
        converted.append(target)
    if not converted:
        raise InputError(f"convert: {folder} holds no file of tinydiff 0.1")
    return converted


def weights_config(old: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a weights file."""
    part = PARTS.get(old["part"], old["part"])
    new: dict[str, Any] = {"part": part, "training": fields("training", old.get("made", {}))}
    if "model" in old:
        new["model"] = fields(part, old["model"])
    if "latent_scale" in old:
        new["model"]["scaling_factor"] = old["latent_scale"]
    if "unet" in old:
        new |= {
            "unet": fields("unet", old["unet"]),
            "text_encoder": fields("text_encoder", old["text"]),
            "scheduler": scheduler(old["schedule"], old["kind"]),
            "space": old.get("space", "latent"),
            "latent_shape": old["latent"],
        }
    return new | {key: old[key] for key in ("words", "losses") if key in old}


def run_state(old: dict[str, Any]) -> dict[str, Any]:
    """The state in a checkpoint: where the run stood, and what run it is."""
    new = fields("run", old["identity"])
    new["part"] = part = PARTS.get(new["part"], new["part"])
    if "model" in new:
        new["model"] = fields("unet" if part == "denoiser" else part, new["model"])
    if part == "autoencoder":
        new["model"]["scaling_factor"] = AutoencoderConfig().scaling_factor
    if "text" in new:
        new["text_encoder"] = {**fields("text_encoder", new.pop("text")), "hidden_act": "gelu", "causal": False}
    if "diffusion" in new:
        schedule, kind, dropout = new.pop("diffusion")
        new |= {"scheduler": scheduler(schedule, kind), "caption_dropout": dropout}
    if "preset" in new:  # segmentation's, whole
        preset = new["preset"]
        model, augmentation = fields("segmentation", preset["model"]), fields("augmentation", preset["augmentation"])
        new["preset"] = {**preset, "model": model, "augmentation": augmentation}
    return {"step": old["step"], "generator": old["generator"], "run_config": new}


def fields(part: str, old: dict[str, Any]) -> dict[str, Any]:
    """One configuration with its fields renamed."""
    new = {FIELDS[part].get(name, name): value for name, value in old.items()}
    if part == "unet":
        new["down_block_types"] = [CROSS_ATTENTION if present else PLAIN for present in new.pop("attention")]
    return new


def scheduler(schedule: str, kind: str) -> dict[str, Any]:
    return {
        "num_train_timesteps": 1000,
        "beta_schedule": SCHEDULES.get(schedule, schedule),
        "prediction_type": PREDICTIONS.get(kind, kind),
    }
