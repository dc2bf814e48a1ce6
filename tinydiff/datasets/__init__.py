"""Data sets: files of the MNIST family, and Fashion-MNIST in colour with captions."""

from .captions import BACKGROUNDS, COLOURS, GARMENTS, UNSEEN, Vocabulary, canonical, caption
from .fashion import CaptionedImages, captioned_fashion, draw_training, load_fashion, render
from .idx import read_idx, read_labelled, write_idx

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
    "read_idx",
    "read_labelled",
    "render",
    "write_idx",
]
