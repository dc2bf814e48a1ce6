"""The settings in a diffusers folder: config.json of each part, and the scheduler's, as ours.

A setting that would change the numbers, and that our models do not have, is refused by name; none is passed over.
"""

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np

from tinydiff.apps.stable_diffusion.kinds import check_unet_channels
from tinydiff.diffusion.prediction import check_prediction_type
from tinydiff.diffusion.schedule import SPACINGS, Schedule, make_schedule, zero_terminal_snr
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import AutoencoderConfig
from tinydiff.models.text_encoder import ACTIVATIONS, TextEncoderConfig
from tinydiff.models.unet import CROSS_ATTENTION, PLAIN, UNetConfig

# Settings that are not in our configurations, each with the values that mean what our models do.
UNET: dict[str, tuple] = {
    "act_fn": ("silu", "swish"), "norm_eps": (1e-5,), "flip_sin_to_cos": (True,), "freq_shift": (0,),
    "center_input_sample": (False,), "downsample_padding": (1,), "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",), "only_cross_attention": (False,), "dual_cross_attention": (False,),
    "transformer_layers_per_block": (1,), "class_embed_type": (None,), "num_class_embeds": (None,),
    "addition_embed_type": (None,), "encoder_hid_dim": (None,), "resnet_time_scale_shift": ("default",),
    "resnet_skip_time_act": (False,), "resnet_out_scale_factor": (1.0,), "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,), "time_embedding_act_fn": (None,), "timestep_post_act": (None,),
    "time_cond_proj_dim": (None,), "conv_in_kernel": (3,), "conv_out_kernel": (3,), "attention_type": ("default",),
    "cross_attention_norm": (None,),
}  # fmt: skip
AUTOENCODER: dict[str, tuple] = {
    "act_fn": ("silu", "swish"), "out_channels": (3,), "shift_factor": (None, 0), "latents_mean": (None,),
    "latents_std": (None,), "use_quant_conv": (True,), "use_post_quant_conv": (True,),
}  # fmt: skip
TEXT: dict[str, tuple] = {"layer_norm_eps": (1e-5,), "hidden_act": tuple(ACTIVATIONS)}
SCHEDULER: dict[str, tuple] = {
    "clip_sample": (False,), "thresholding": (False,), "use_karras_sigmas": (False, None),
    "use_exponential_sigmas": (False, None), "use_beta_sigmas": (False, None), "use_flow_sigmas": (False, None),
    "timestep_spacing": SPACINGS,
}  # fmt: skip
# Stable Diffusion's own.
DEFAULT_SCHEDULER: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "timestep_spacing": "leading",
}
MOST, LAYERS, LEVELS = 10**6, 256, 16  # of whatever a setting counts, of layers, of levels
WORDS = {int: "a whole number", float: "a number above 0", str: "a name", bool: "true or false"}
LONGEST_CONFIG = 10**6  # bytes


def read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LONGEST_CONFIG:
            raise ValueError("far longer than any configuration")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds a {type(found).__name__}, expected settings by name")
    return found


def unet_config(path: Path) -> UNetConfig:
    found = read_json(path)
    check_unet_channels(path, found.get("in_channels", 4))
    _refuse(path, found, UNET)
    types, ups = found.get("down_block_types"), found.get("up_block_types")
    if types is not None and not (isinstance(types, list) and set(types) <= {CROSS_ATTENTION, PLAIN}):
        raise InputError(f"{path}: down_block_types is {types!r}, expected {CROSS_ATTENTION} and {PLAIN}")
    mirrored = [name.replace("Down", "Up") for name in types[::-1]] if types else ups
    if ups not in (None, mirrored):
        raise InputError(f"{path}: up_block_types is {ups!r}, expected {mirrored}, as down_block_types has them")
    if found.get("num_attention_heads") is None and "attention_head_dim" in found:
        found = {**found, "num_attention_heads": found["attention_head_dim"]}  # what files call the number of heads
    return _configured(UNetConfig, found, path)


def autoencoder_config(path: Path) -> AutoencoderConfig:
    found = {"scaling_factor": 0.18215, **read_json(path)}
    _refuse(path, found, AUTOENCODER)
    for side, name in (("down", "DownEncoderBlock2D"), ("up", "UpDecoderBlock2D")):
        types = found.get(f"{side}_block_types", [name])
        if not isinstance(types, list) or set(types) != {name}:
            raise InputError(f"{path}: {side}_block_types is {types!r}, expected {name} at each level")
    return _configured(AutoencoderConfig, found, path)


def text_config(path: Path) -> TextEncoderConfig:
    found = {"causal": True, "hidden_act": "quick_gelu", **read_json(path)}
    _refuse(path, found, TEXT)
    config = _configured(TextEncoderConfig, found, path)
    if found.get("intermediate_size", 4 * config.hidden_size) != 4 * config.hidden_size:
        raise InputError(f"{path}: intermediate_size is {found['intermediate_size']!r}, expected 4·hidden_size")
    return config


def noise_schedule(path: Path, found: dict[str, Any]) -> tuple[Schedule, str]:
    """The noise schedule of a scheduler's settings, and what the U-Net predicts."""
    _refuse(path, found, SCHEDULER)
    settings = {**DEFAULT_SCHEDULER, **found}
    for name in ("num_train_timesteps", "steps_offset"):
        if not (type(settings[name]) is int and (name == "steps_offset") <= settings[name] + 1 <= MOST):
            raise InputError(f"{path}: {name} is {settings[name]!r}, expected a whole number")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not end in noise alone: the weights are trained for it
        try:
            check_prediction_type(settings["prediction_type"])
            schedule = Schedule(settings["beta_schedule"], _alpha_bar(path, settings))
            schedule = zero_terminal_snr(schedule) if settings.get("rescale_betas_zero_snr") else schedule
            keys = ("timestep_spacing", "steps_offset", "set_alpha_to_one")
            return replace(schedule, **{key: settings[key] for key in keys}), settings["prediction_type"]
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def _alpha_bar(path: Path, settings: dict[str, Any]) -> np.ndarray:
    """ᾱ (T,), from β as diffusers has them: the same for any T."""
    T, name = settings["num_train_timesteps"], settings["beta_schedule"]
    if (trained := settings.get("trained_betas")) is not None:
        try:
            betas = np.asarray(trained, np.float64)
        except (TypeError, ValueError):
            raise InputError(f"{path}: trained_betas must be a list of numbers") from None
        if betas.shape != (T,):
            raise InputError(f"{path}: trained_betas is {betas.shape}, expected {T} numbers")
    elif name in ("linear", "scaled_linear"):
        ends = settings["beta_start"], settings["beta_end"]
        if not all(type(end) in (int, float) and math.isfinite(end) and 0 < end < 1 for end in ends):
            raise InputError(f"{path}: beta_start and beta_end are {ends}, expected two numbers between 0 and 1")
        power = 1 if name == "linear" else 2
        betas = np.linspace(ends[0] ** (1 / power), ends[1] ** (1 / power), T) ** power
    elif name == "squaredcos_cap_v2":
        return make_schedule(name, T).alpha_bar
    else:
        raise InputError(f"{path}: beta_schedule is {name!r}, expected linear, scaled_linear or squaredcos_cap_v2")
    return np.cumprod(1 - betas)


def _refuse(path: Path, found: dict[str, Any], accepted: dict[str, tuple]) -> None:
    for name, values in accepted.items():
        if name in found and found[name] not in values:
            expected = " or ".join(map(repr, values))
            raise InputError(f"{path}: {name} is {found[name]!r}, expected {expected}, which is what tinydiff has")


def _configured(config: Callable[..., Any], found: dict[str, Any], path: Path) -> Any:
    """One of our configurations from the fields that it shares with a config.json, each of the type that it has."""
    chosen = {}
    for field in (field for field in fields(config) if field.name in found):  # type: ignore[arg-type]
        name, value = field.name, found[field.name]
        many, kind = get_origin(field.type) is tuple, (get_args(field.type) or (field.type,))[0]
        most = LAYERS if "layers" in name else MOST
        if many != isinstance(value, list) or not all(_fits(v, kind, most) for v in (value if many else [value])):
            raise InputError(f"{path}: {name} is {value!r}, expected {WORDS[kind]}{' at each level' * many}")
        if many and not 0 < len(value) <= LEVELS:
            raise InputError(f"{path}: {name} has {len(value)} levels, expected 1 to {LEVELS}")
        chosen[name] = tuple(value) if many else value
    try:
        return config(**chosen)
    except TypeError as error:
        raise InputError(f"{path}: its settings do not fit ({error})") from None


def _fits(value: Any, kind: Any, most: float) -> bool:
    if kind in (str, bool):
        return type(value) is kind
    return type(value) in (int, kind) and 0 < value <= most
