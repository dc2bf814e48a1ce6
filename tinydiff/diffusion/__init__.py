"""Diffusion: noise schedules, what the network predicts, samplers and guidance, on plain arrays."""

from tinydiff.diffusion.guidance import guided
from tinydiff.diffusion.prediction import KINDS, add_noise, noise_from_x0, target, to_x0_and_noise
from tinydiff.diffusion.samplers import SAMPLERS, invert_ddim, sample_ddim, sample_ddpm, sample_dpm, sample_heun
from tinydiff.diffusion.schedule import SCHEDULES, Schedule, cosine, linear, make_schedule, scaled_linear

__all__ = [
    "KINDS",
    "SAMPLERS",
    "SCHEDULES",
    "Schedule",
    "add_noise",
    "cosine",
    "guided",
    "invert_ddim",
    "linear",
    "make_schedule",
    "noise_from_x0",
    "sample_ddim",
    "sample_ddpm",
    "sample_dpm",
    "sample_heun",
    "scaled_linear",
    "target",
    "to_x0_and_noise",
]
