"""From a prompt to an image, and images edited, interpolated and inverted by the same model."""

from tinydiff.pipelines.text_to_image import TextToImage, load

__all__ = ["TextToImage", "load"]
