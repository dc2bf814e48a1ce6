"""Segmentation, the U-Net's first task: which pixels belong to a cell, and to which one."""

from tinydiff.segmentation.augment import Augmentation, cut, deformation
from tinydiff.segmentation.border import border_weights, classes
from tinydiff.segmentation.cells import find_cells
from tinydiff.segmentation.segmenter import Segmentation, Segmenter, normaliser
from tinydiff.segmentation.tiles import predict

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
