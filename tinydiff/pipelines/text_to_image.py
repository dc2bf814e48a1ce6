"""From a prompt to an image: text → vectors → noise → many small steps → latent → pixels."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

import tinydiff
from tinydiff import kernels
from tinydiff.autograd import Array, Tensor, no_grad
from tinydiff.datasets.captions import Tokenizer, Vocabulary
from tinydiff.datasets.pixels import as_pixels
from tinydiff.device import array_module, to_numpy
from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL, GUIDANCE_SCALE, classifier_free_guidance
from tinydiff.diffusion.samplers import DEFAULTS, SAMPLERS, Options, sample
from tinydiff.diffusion.schedule import Schedule, make_schedule
from tinydiff.errors import InputError
from tinydiff.kernels import constant_weights
from tinydiff.models.autoencoder import Autoencoder, PixelSpace
from tinydiff.models.unet import Denoiser
from tinydiff.nn.module import hooked
from tinydiff.pipelines.editing import edit, interpolate, invert, reconstruct
from tinydiff.replay import Replay
from tinydiff.weights import fingerprint, load_autoencoder, load_denoiser_network, shipped_weights


@dataclass(frozen=True)
class Settings:
    """How a model generates where its caller does not say."""

    steps: int = 25
    guidance_scale: float = GUIDANCE_SCALE
    guidance_interval: tuple[float, float] = GUIDANCE_INTERVAL
    sampler: str = "ddim"
    rng: str = "numpy"  # whose random numbers: see TextToImage.generators
    sample_posterior: bool = False  # an image that is edited begins as a draw from what the encoder says, not its mean
    batch: int = 32  # images that go through the networks together: what bounds the memory
    keep_transforms: bool = True  # of kernels, by Winograd: made once, but up to four times as large as the weights

    def given(self, **chosen: Any) -> "Settings":
        """The same, but for what is not None."""
        return replace(self, **{name: value for name, value in chosen.items() if value is not None})


_threads = threading.local()


@dataclass(eq=False, repr=False)
class TextToImage:
    """The latent diffusion model: `encode_prompt`, `sample`, `decode`, and `generate`, which is all three in a row.

    (Rombach 2022, arXiv:2112.10752)
    """

    autoencoder: Autoencoder | PixelSpace
    denoiser: Denoiser
    vocabulary: Tokenizer
    schedule: Schedule
    prediction_type: str
    latent_shape: tuple[int, int, int]  # (h, w, C)
    settings: Settings = Settings()
    generators: dict[str, Callable[[int], Any]] = field(default_factory=lambda: {"numpy": np.random.default_rng})

    edit, interpolate, invert, reconstruct = edit, interpolate, invert, reconstruct  # methods written in editing.py

    def __repr__(self) -> str:
        latent = "×".join(map(str, self.latent_shape))
        parameters = sum(p.size for module in (self.autoencoder, self.denoiser) for p in module.parameters())
        return (
            f"TextToImage({self.size}×{self.size} images, {latent} latents, {self.prediction_type}, "
            f"{self.schedule.name} schedule, {len(self.vocabulary)} tokens, {parameters:,} parameters)"
        )

    @property
    def size(self) -> int:
        """Pixels of an image's side."""
        return self.latent_shape[0] * self.autoencoder.factor

    @property
    def multiple(self) -> int:
        """What divides an image's sides: each level of the U-Net halves those of the latents."""
        return self.autoencoder.factor * 2 ** (len(self.denoiser.unet.config.block_out_channels) - 1)

    def to(self, device: str) -> "TextToImage":
        """Move the networks to "cpu" or "cuda", in place.  Raises InputError where the device cannot be used."""
        for module in (self.autoencoder, self.denoiser):
            module.to(device)
        return self

    def generate(
        self,
        prompts: Sequence[str],
        steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        negative_prompt: str | None = None,
        seed: int = 0,
        sampler: str | None = None,
        options: Options = DEFAULTS,
        height: int | None = None,
        width: int | None = None,
        rng: str | None = None,
    ) -> np.ndarray:
        """One image for each prompt, uint8 (N, H, W, 3); the same seed gives the same images.

        What is None is as the model's `settings` say.  steps: of the schedule's timesteps.  guidance_scale: how far
        from the unconditional prediction, or from that of the negative_prompt, towards the prompt's; 1 is none.
        guidance_interval (low, high): guidance only where low ≤ t/T < high; (0, 1) is everywhere.  sampler: one of
        `diffusion.SAMPLERS`; options: what else it may be told, such as a callback after each step.  height, width:
        in pixels.  rng: "numpy", or with Stable Diffusion's weights "torch", PyTorch's random numbers.
        Noise is drawn on the CPU, so that a seed means the same images on a GPU, up to rounding; attention rounds
        differently with AVX2 and AVX-512, too.  With "ddpm" an image's noise depends on how many are drawn with it.
        Raises InputError for what does not fit, FloatingPointError where an image is not finite.

            images = tinydiff.load().generate(["a red dress on a white background"] * 4, seed=1)
        """
        self.check(prompts, steps, guidance_interval, sampler, seed)
        factor, generator = self.autoencoder.factor, self.generator(seed, rng)
        height = self.latent_shape[0] * factor if height is None else height
        width = self.latent_shape[1] * factor if width is None else width
        if min(height, width) < 1 or height % self.multiple or width % self.multiple:
            raise InputError(f"generate: height and width must be multiples of {self.multiple}; got {height}, {width}")
        shape = len(prompts), height // factor, width // factor, self.latent_shape[2]
        noise = generator.standard_normal(shape, np.float32)
        text = self.encode_prompt(prompts)
        guidance = guidance_scale, guidance_interval, negative_prompt
        return self.decode(self.sample(text, noise, steps, generator, *guidance, sampler, options))

    def generator(self, seed: int, rng: str | None = None) -> Any:
        """The random numbers of that name, `settings.rng` by default; InputError for another name."""
        name = self.settings.rng if rng is None else rng
        if name not in self.generators:
            raise InputError(f"no rng {name!r}; there is {', '.join(self.generators)}")
        return self.generators[name](seed)

    def attention_maps(self, prompt: str, **options: Any) -> Any:
        """Where each word acts while an image is generated: `tinydiff.attention_maps`, which says what comes back."""
        return tinydiff.attention_maps(self, prompt, **options)

    def encode_prompt(self, prompts: Sequence[str]) -> Array:
        """Prompts as the vectors that the U-Net is conditioned on, (N, L, D)."""
        return self._encode_tokens(self.vocabulary.encode(prompts))

    def sample(
        self,
        text: Array,
        noise: Array,
        steps: int | None,
        rng: np.random.Generator,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        negative_prompt: str | None = None,
        sampler: str | None = None,
        options: Options = DEFAULTS,
    ) -> Array:
        """Latents (N, h, w, C) that noise (N, h, w, C) becomes, conditioned on text (N, L, D).

        `settings.batch` of them go together, or all with `options.adjust`, which expects the whole batch in order.
        """
        chosen = self.settings.given(
            steps=steps, guidance_scale=guidance_scale, guidance_interval=guidance_interval, sampler=sampler
        )
        together = len(noise) if options.adjust is not None else chosen.batch
        low, high = (share * self.schedule.num_train_timesteps for share in chosen.guidance_interval)
        options = replace(options, clip=self.autoencoder.clip)
        latents = []
        with constant_weights() if chosen.keep_transforms else contextlib.nullcontext():
            empty = self._unconditional(min(together, len(noise)), negative_prompt)
            for i in range(0, len(noise), together):
                c = text[i : i + together]
                scale, step = chosen.guidance_scale, SAMPLERS[chosen.sampler]
                predict = classifier_free_guidance(self.predict, c, empty[: len(c)], scale, (low, high))
                x = self.denoiser.place(noise[i : i + together])
                kind = self.prediction_type
                latents.append(sample(step, predict, x, self.schedule, chosen.steps, rng, kind, options))
        return latents[0] if len(latents) == 1 else array_module(latents[0]).concatenate(latents)

    def decode(self, latents: Array) -> np.ndarray:
        """Images, uint8 (N, H, W, 3), of latents (N, h, w, C).  Raises FloatingPointError where one is not finite."""
        together = self.settings.batch
        parts = [latents[i : i + together] for i in range(0, len(latents), together)]
        return np.concatenate([as_pixels(to_numpy(self.autoencoder.decode(part))) for part in parts])

    def predict(self, x: Array, t: int, text: Array) -> Array:
        """The network's prediction for latents (N, h, w, C) that are all at timestep t.

        Within `constant_weights`, as in `sample`, it is recorded and replayed (`replay.py`), unless a hook looks on.
        """
        unet, inputs = self.denoiser.unet, (x, np.full(len(x), t), text)

        def work(x: Array, t: Array, text: Array) -> Array:
            return unet(Tensor(x), t, Tensor(text)).data

        with no_grad():
            if hooked() or not kernels.weights_are_constant():
                return work(*inputs)
            return self._replay()(work, [p.data for p in unet.parameters()], *inputs).copy()

    def _replay(self) -> Replay:
        """The records of this thread, which hold as long as no weights change in place."""
        version = kernels.weights_version()
        replays: WeakKeyDictionary = vars(_threads).setdefault("replays", WeakKeyDictionary())
        if replays.get(self, (None, None))[0] != version:
            replays[self] = version, Replay()
        return replays[self][1]

    def check(
        self,
        prompts: Sequence[str],
        steps: int | None = None,
        guidance_interval: tuple[float, float] | None = None,
        sampler: str | None = None,
        seed: int = 0,
    ) -> None:
        """Raise InputError where a prompt or a number does not fit; it costs nothing."""
        chosen = self.settings.given(steps=steps, guidance_interval=guidance_interval, sampler=sampler)
        if isinstance(prompts, str) or not prompts:
            raise InputError(f"prompts must be a list of at least one string, not {prompts!r}")
        self.vocabulary.encode(list(prompts))
        self.schedule.timesteps(chosen.steps)
        low, high = chosen.guidance_interval
        if not 0 <= low < high <= 1:
            raise InputError(f"guidance_interval must be low, high with 0 ≤ low < high ≤ 1; got {low}, {high}")
        if chosen.sampler not in SAMPLERS:
            raise InputError(f"no sampler {chosen.sampler!r}; there are {', '.join(SAMPLERS)}")
        if not isinstance(seed, Integral) or seed < 0:
            raise InputError(f"the seed must be a whole number, 0 or more, not {seed!r}")

    def _unconditional(self, count: int, negative_prompt: str | None = None) -> Array:
        """What guidance leads away from, (count, L, D): the empty prompt's vectors, or a negative prompt's."""
        if negative_prompt:
            return self.encode_prompt([negative_prompt] * count)
        return self._encode_tokens(self.vocabulary.unconditional(count))

    def _encode_tokens(self, tokens: np.ndarray) -> Array:
        with no_grad():
            return self.denoiser.text_encoder(tokens).data


def load(folder: str | Path | None = None) -> TextToImage:
    """The model with the weights that come with tinydiff, or with those in a folder that `tinydiff train` wrote.

    Stable Diffusion 1.x's own weights, a folder of diffusers' or a single file, make the same pipeline.
    Raises InputError for files that are missing, damaged, of another version or shape, or that do not belong together.
    """
    where = shipped_weights() if folder is None else Path(folder)
    if where.is_file() or any((where / name).exists() for name in ("model_index.json", "unet")):
        return tinydiff.load_stable_diffusion(where)
    denoiser, config = load_denoiser_network(where)
    autoencoder = PixelSpace() if config.get("space") == "pixels" else load_autoencoder(where)
    channels, latent_shape = autoencoder.channels, tuple(config["latent_shape"])
    if len(latent_shape) != 3 or not channels == latent_shape[2] == denoiser.unet.config.in_channels:
        raise InputError(
            f"{where}: the autoencoder's latents have {channels} channels, the denoiser was trained on {latent_shape}"
        )
    own = config.get("autoencoder")  # the fingerprint of the one that it was trained with; former files have none
    if own is not None and own != fingerprint(autoencoder):
        other = f"{where / 'denoiser.safetensors'} was trained with another"
        raise InputError(f"{where / 'autoencoder.safetensors'}: a foreign autoencoder; {other}")
    text = denoiser.text_encoder.config
    vocabulary = Vocabulary(config["words"], text.max_position_embeddings)
    if len(vocabulary) != text.vocab_size:
        raise InputError(f"{where}: {len(vocabulary)} words do not fit {text.vocab_size} vectors")
    scheduler = config["scheduler"]
    schedule = make_schedule(scheduler["beta_schedule"], scheduler["num_train_timesteps"])
    return TextToImage(autoencoder, denoiser, vocabulary, schedule, scheduler["prediction_type"], latent_shape)
