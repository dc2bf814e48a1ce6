"""Iterative α-(de)blending between garments, and in the plane: `python notebooks/results/iadb.py`.

Nothing in IADB is Gaussian, so that it carries garments of one kind to those of another: here a small U-Net learns, on
the shipped autoencoder's latents, to lead sneakers to ankle boots of the same colour.  Its test is on garments that no
network has seen.  A second image shows the same in the plane, where the perfect network can be written down.
(Heitz 2023, arXiv:2305.03486)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from studies import program, run
from tinydiff import ops
from tinydiff.apps.grid import save_grid
from tinydiff.apps.train.session import fit
from tinydiff.autograd import Tensor, no_grad
from tinydiff.cli.types import at_least
from tinydiff.datasets import BACKGROUNDS, COLOURS, GARMENTS, load_fashion, render
from tinydiff.datasets.pixels import as_floats, as_pixels
from tinydiff.diffusion.iadb import Direction, blend, deblend
from tinydiff.models.autoencoder import Autoencoder
from tinydiff.models.unet import UNet, UNetConfig
from tinydiff.training.loop import Task
from tinydiff.training.optim import OptimConfig
from tinydiff.viz.figures import save_figure
from tinydiff.viz.process import exact_direction, plane
from tinydiff.weights import load_autoencoder, load_classifier, shipped_weights

FROM, TO = "sneaker", "ankle boot"
BATCH = 64
UNET = UNetConfig(
    block_out_channels=(48, 96),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "DownBlock2D"),
    num_attention_heads=4,
    norm_num_groups=8,
    cross_attention_dim=8,
)
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the image's rows


def grey_garments(name: str, split: str) -> np.ndarray:
    """All garments of one name, "sneaker" say, uint8 (N, 28, 28)."""
    grey, labels, _ = load_fashion(split)
    return grey[labels == GARMENTS.index(name)]


def coloured(grey: np.ndarray, colours: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A garment drawn at random for each of the colours (count,), uint8 (count, 32, 32, 3)."""
    return render(grey[rng.integers(0, len(grey), len(colours[0]))], *colours)


def drawn_colours(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colours and backgrounds drawn at random, (count,) each."""
    return rng.integers(0, len(COLOURS), count), rng.integers(0, len(BACKGROUNDS), count)


def direction_of(unet: UNet) -> Direction:
    """The network's direction for latents that are all blended by α."""

    def direction(x: np.ndarray, alpha: float) -> np.ndarray:
        with no_grad():
            return predict(unet, x, np.full(len(x), alpha)).data

    return direction


def predict(unet: UNet, x: np.ndarray, alpha: np.ndarray) -> Tensor:
    """E[x1 − x0], conditioned on α alone: a vector of zeros stands in for the text."""
    text = np.zeros((len(x), 1, UNET.cross_attention_dim), np.float32)
    return unet(Tensor(x), 1000 * alpha, Tensor(text))


def learn(autoencoder: Autoencoder, steps: int, out: Path, seed: int = 0) -> UNet:
    """A network that leads FROM to TO: E[x1 − x0 | x_α, α] over pairs that share nothing but their colours."""
    sources, targets = (grey_garments(name, "train") for name in (FROM, TO))
    unet = UNet(UNET, np.random.default_rng([seed, 70]))

    def loss_of(step: int, rng: np.random.Generator) -> Tensor:
        colours = drawn_colours(BATCH, rng)
        x0, x1 = (autoencoder.encode(as_floats(coloured(grey, colours, rng))) for grey in (sources, targets))
        alpha = rng.random(BATCH).astype(np.float32)
        return ops.mse_loss(predict(unet, blend(x0, x1, alpha), alpha), Tensor(x1 - x0))

    optim = OptimConfig(steps=steps, batch=BATCH, lr=1.5e-3, warmup=min(100, steps), ema=0.995)
    task = Task("iadb", unet, loss_of, optim, seed, {"from": FROM, "to": TO})
    unet.load_state_dict(fit(task, out, resume=True))
    return unet


def carry(autoencoder: Autoencoder, direction: Direction, images: np.ndarray, steps: int) -> list[np.ndarray]:
    """Images at each of ALPHAS on their way, uint8 (N, 32, 32, 3) each."""
    latents = autoencoder.encode(as_floats(images))
    passed = [latents]
    deblend(direction, latents, steps, lambda done, x: passed.append(x))
    return [as_pixels(autoencoder.decode(passed[round(alpha * steps)])) for alpha in ALPHAS]


def shares(images: np.ndarray, colours: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """How many the evaluation classifier calls TO, and how many it sees in the colours that they had."""
    garment, colour, background = load_classifier(shipped_weights()).classify(as_floats(images))
    kept = (colour == colours[0]) & (background == colours[1])
    return float((garment == GARMENTS.index(TO)).mean()), float(kept.mean())


def plot_plane(path: Path, seed: int = 0) -> None:
    """From a Gaussian to five points: paths of a few samples, and where all end after 1, 4 and 16 steps."""
    angle = np.pi / 2 + np.arange(5) * 2 * np.pi / 5
    points = 3 * np.stack([np.cos(angle), np.sin(angle)], 1)
    x = np.random.default_rng(seed).standard_normal((600, 2))
    direction = exact_direction(points)
    paths = [x]
    deblend(direction, x, 200, lambda done, x: paths.append(x))
    ends = {f"after {n} step{'s' * (n > 1)}": deblend(direction, x, n) for n in (1, 4, 16)}
    save_figure(plane(paths, ends, points), path)


def main() -> None:
    parser = program("iadb", __doc__, out="deblending")
    parser.add_argument("--train", type=at_least(1), default=3000, metavar="STEPS", help="of training, 3000")
    parser.add_argument("--steps", type=at_least(4), default=32, help="from one garment to the other, 32")
    parser.add_argument("-n", type=at_least(8), default=500, help="garments that are classified, 500")
    args = parser.parse_args()
    out: Path = args.output
    out.mkdir(parents=True, exist_ok=True)
    plot_plane(out / "plane.png")
    autoencoder = load_autoencoder(shipped_weights())
    unet = learn(autoencoder, args.train, out)
    rng = np.random.default_rng(0)
    colours = drawn_colours(args.n, rng)
    sneakers = coloured(grey_garments(FROM, "test"), colours, rng)
    passed = carry(autoencoder, direction_of(unet), sneakers, args.steps)
    for alpha, images in zip(ALPHAS, passed, strict=True):
        right, kept = shares(images, colours)
        print(f"α = {alpha:4.2f}   {TO} {100 * right:5.1f} %   colours kept {100 * kept:5.1f} %", flush=True)
    save_grid(np.stack([images[:8] for images in passed]).reshape(-1, 32, 32, 3), out / "garments.png", columns=8)
    print(f"{out}: plane.png, garments.png")


if __name__ == "__main__":
    sys.exit(run(main))
