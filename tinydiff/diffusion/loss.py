"""The diffusion loss: what a denoiser learns from.  Everything else in training serves these lines."""

from collections.abc import Callable

import numpy as np

from tinydiff import ops
from tinydiff.autograd import Array, Tensor
from tinydiff.device import to_device_of
from tinydiff.diffusion.prediction import add_noise, target
from tinydiff.diffusion.schedule import Schedule


def diffusion_loss(
    predict: Callable[[Tensor, Array], Tensor],
    x0: Array,
    schedule: Schedule,
    rng: np.random.Generator,
    prediction_type: str = "v_prediction",
) -> Tensor:
    """Add noise to each example at a random timestep, let the network predict the target, take the mean squared error.

    predict(x_t, t) is the network, with whatever it is conditioned on besides t; x0 (N, …) images or latents.
    (Ho 2020, arXiv:2006.11239, algorithm 1)

        loss = diffusion_loss(lambda x_t, t: unet(x_t, t, text), latents, schedule, rng)
    """
    x_t, t, aim = noisy_examples(x0, schedule, rng, prediction_type)
    return ops.mse_loss(predict(Tensor(x_t), t), Tensor(aim))


def noisy_examples(
    x0: Array, schedule: Schedule, rng: np.random.Generator, prediction_type: str = "v_prediction"
) -> tuple[Array, Array, Array]:
    """x_t (N, …), each example x0 (N, …) with noise at a random timestep; t (N,); what to predict, as x0.

    (Ho 2020, arXiv:2006.11239, algorithm 1; `diffusion.prediction.target` has the prediction types)
    """
    t = rng.integers(0, schedule.num_train_timesteps, len(x0))  # (N,)
    noise = to_device_of(rng.standard_normal(x0.shape, np.float32), x0)  # (N, …)
    alpha_bar = schedule.alpha_bar[t]  # (N,)
    return add_noise(x0, noise, alpha_bar), t, target(x0, noise, alpha_bar, prediction_type)
