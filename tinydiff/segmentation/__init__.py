"""Segmentation, the U-Net's first task: which pixels belong to a cell, and to which one."""

from .augment import Augmentation, cut, deformation
from .border import border_weights, classes
from .cells import find_cells
from .segmenter import Segmentation, Segmenter, normaliser
from .tiles import predict

__all__ = [
    "Augmentation",
    "Segmentation",
    "Segmenter",
    "border_weights",
    "classes",
    "cut",
    "deformation",
    "find_cells",
    "normaliser",
    "predict",
]
