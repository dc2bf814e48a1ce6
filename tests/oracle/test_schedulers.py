"""Against diffusers' schedulers, as Stable Diffusion configures them: whole trajectories from the same noise.

diffusers' DPM-Solver++ makes a list of timesteps of its own for "leading" (it divides by one step more), so that it is
compared with "trailing".  Its trailing DDIM takes t − T/steps for the next timestep, which leaves its own list where T
is no multiple of the steps: there ours keeps to the list.
"""

import os

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched
torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from tinydiff.diffusion import SAMPLERS, Options, sample, scaled_linear, zero_terminal_snr  # noqa: E402
from tinydiff.diffusion.schedule import Schedule  # noqa: E402

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
LEADING = dict(timestep_spacing="leading", steps_offset=1)
THEIRS = {
    "ddim": (diffusers.DDIMScheduler, dict(**LEADING, set_alpha_to_one=False, clip_sample=False)),
    "plms": (diffusers.PNDMScheduler, dict(**LEADING, set_alpha_to_one=False, skip_prk_steps=True)),
    "euler": (diffusers.EulerDiscreteScheduler, LEADING),
    "euler-ancestral": (diffusers.EulerAncestralDiscreteScheduler, LEADING),
    "heun": (diffusers.HeunDiscreteScheduler, LEADING),
    "dpm": (diffusers.DPMSolverMultistepScheduler, dict(timestep_spacing="trailing", lower_order_final=True)),
}


@pytest.fixture(scope="module")
def schedule():
    with pytest.warns(UserWarning, match="keeps"):
        found = scaled_linear()
    return Schedule("Stable Diffusion's", found.alpha_bar, "leading", 1, False)


def network(x, t):
    """No denoiser, but not linear either, and of the size of noise."""
    return np.cos(3 * x + t / 100) * 0.6 + 0.5 * np.tanh(x)


class Same:
    """The generator that both draw from: torch's numbers, in float64."""

    def __init__(self):
        self.torch = torch.Generator().manual_seed(5)

    def standard_normal(self, shape, dtype=None):
        return torch.randn(shape, generator=self.torch, dtype=torch.float64).numpy()


def theirs(name, x, steps, prediction_type="epsilon", **changed):
    kind, options = THEIRS[name]
    scheduler = kind(**SD, **{**options, "prediction_type": prediction_type, **changed})
    scheduler.set_timesteps(steps)
    sample, generator = torch.tensor(x) * scheduler.init_noise_sigma, torch.Generator().manual_seed(5)
    if name in ("euler", "euler-ancestral", "heun"):
        sample = torch.tensor(x) * (scheduler.sigmas[0].double() ** 2 + 1) ** 0.5
    drawn = {"generator": generator} if name == "euler-ancestral" else {}
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(sample, t)
        sample = scheduler.step(torch.tensor(network(seen.numpy(), float(t))), t, sample, **drawn).prev_sample
    return sample.numpy(), [int(t) for t in scheduler.timesteps]


@pytest.mark.parametrize("steps", [5, 20, 50])
@pytest.mark.parametrize("name", THEIRS)
def test_whole_trajectories(schedule, name, steps):
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3))
    asked = []
    options = Options(spacing="trailing" if name == "dpm" else None)
    predict = lambda x, t: asked.append(t) or network(x, t)  # noqa: E731
    ours = sample(SAMPLERS[name], predict, x, schedule, steps, Same(), "epsilon", options)
    expected, timesteps = theirs(name, x, steps)
    assert asked == (timesteps if name != "heun" else asked)
    assert abs(ours - expected).max() <= 1e-5 * abs(expected).max()


@pytest.mark.parametrize("name", ["ddim", "euler", "dpm"])
def test_a_schedule_that_ends_in_noise_alone(schedule, name):
    x, steps = np.random.default_rng(1).standard_normal((2, 4, 4, 3)), 20
    ended = zero_terminal_snr(schedule)
    assert ended.alpha_bar[-1] == 0
    options = Options(spacing="trailing")
    ours = sample(SAMPLERS[name], network, x, ended, steps, Same(), "v_prediction", options)
    expected, _ = theirs(name, x, steps, "v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    # Euler and DPM-Solver++ hold ᾱ at 2⁻²⁴ there, where it should be 0.
    assert abs(ours - expected).max() <= (1e-5 if name == "ddim" else 2e-3) * abs(expected).max()
