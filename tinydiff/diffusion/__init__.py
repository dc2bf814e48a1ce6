"""Diffusion: noise schedules, what the network predicts, the loss, samplers and guidance."""

from tinydiff.diffusion.guidance import classifier_free_guidance
from tinydiff.diffusion.loss import diffusion_loss
from tinydiff.diffusion.prediction import PREDICTION_TYPES, add_noise, noise_from_x0, target, to_x0_and_noise
from tinydiff.diffusion.samplers import (
    SAMPLERS,
    Options,
    ddim_step,
    ddpm_step,
    dpm_step,
    euler_ancestral_step,
    euler_step,
    heun_step,
    invert_ddim,
    plms_step,
    sample,
)
from tinydiff.diffusion.schedule import (
    SCHEDULES,
    Schedule,
    cosine,
    linear,
    make_schedule,
    scaled_linear,
    zero_terminal_snr,
)
