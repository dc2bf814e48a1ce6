"""What the evaluation classifier learns from: images, each with the garment, colour and background that it shows."""

from dataclasses import asdict

import numpy as np

from tinydiff import ops
from tinydiff.autograd import Tensor
from tinydiff.datasets import Fashion
from tinydiff.datasets.pixels import as_floats
from tinydiff.models.classifier import Classifier
from tinydiff.training.loop import Shuffle, Task
from tinydiff.training.presets import Preset


def classifier_task(fashion: Fashion, preset: Preset) -> Task:
    """Name garment, colour and background of real images: the evaluation classifier.

    It learns from every pair of garment and colour: one that never saw a green dress would call it anything but a
    dress, and could not tell whether the denoiser, which never saw one either, has generated it.
    """
    fashion = Fashion(fashion.grey, fashion.labels, fashion.source, preset.seed, every_pair=True)
    model = Classifier(preset.classifier, np.random.default_rng([preset.seed, 40]))
    batches = Shuffle(len(fashion), preset.classifier_optim.batch, preset.seed + 2)

    def loss(step: int, rng: np.random.Generator) -> Tensor:
        epoch, indices = batches.at(step)
        batch = fashion.epoch(epoch)
        truth = batch.garment, batch.colour, batch.background
        return classification_loss(model, batch.images, truth, indices)

    run_config = {"model": asdict(preset.classifier), "data": fashion.source}
    return Task("classifier", model, loss, preset.classifier_optim, preset.seed, run_config)


def classification_loss(
    model: Classifier, images: np.ndarray, truth: tuple[np.ndarray, ...], indices: np.ndarray
) -> Tensor:
    """The cross-entropies of garment, colour and background, together."""
    logits = model(Tensor(model.place(as_floats(images[indices]))))
    losses = [ops.cross_entropy_loss(own, right[indices]) for own, right in zip(logits, truth, strict=True)]
    return losses[0] + losses[1] + losses[2]
