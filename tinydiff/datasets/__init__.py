"""Data sets: Fashion-MNIST in colour with captions, nuclei with their masks, and files of pictures."""

from .captions import BACKGROUNDS, COLOURS, GARMENTS, UNSEEN, Vocabulary, canonical, caption
from .fashion import CaptionedImages, captioned_fashion, draw_training, load_fashion, render, shipped_fashion
from .idx import read_idx, read_labelled, write_idx
from .nuclei import load_nuclei, simulate_nuclei
from .pictures import read_image, read_mask, read_pairs

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "GARMENTS",
    "UNSEEN",
    "CaptionedImages",
    "Vocabulary",
    "canonical",
    "caption",
    "captioned_fashion",
    "draw_training",
    "load_fashion",
    "load_nuclei",
    "read_idx",
    "read_image",
    "read_labelled",
    "read_mask",
    "read_pairs",
    "render",
    "shipped_fashion",
    "simulate_nuclei",
    "write_idx",
]
