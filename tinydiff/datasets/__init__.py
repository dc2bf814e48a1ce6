"""Data sets: Fashion-MNIST in colour, with captions, from IDX files."""

from tinydiff.datasets.captions import BACKGROUNDS, COLOURS, GARMENTS, UNSEEN, Vocabulary, canonical
from tinydiff.datasets.fashion import (
    CaptionedImages,
    Fashion,
    captioned_fashion,
    draw_training,
    load_fashion,
    render,
    shipped_fashion,
)
from tinydiff.datasets.idx import read_idx, read_labelled
