"""Data beyond the captioned garments: nuclei with their masks, your own images, and image files of any depth."""

from tinydiff.apps.data.image_files import read_image, read_mask, read_pairs
from tinydiff.apps.data.nuclei import load_nuclei, simulate_nuclei

__all__ = ["load_nuclei", "read_image", "read_mask", "read_pairs", "simulate_nuclei"]
