"""The command line offers what there is: its constants, which import nothing, are those of the library."""

from tinydiff import bench
from tinydiff.apps.data.own_images import SIZES
from tinydiff.apps.train.run import PARTS
from tinydiff.cli import choices
from tinydiff.device import DEVICES
from tinydiff.diffusion import SAMPLERS
from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL, GUIDANCE_SCALE
from tinydiff.segmentation.presets import SEGMENTATION
from tinydiff.training.presets import PRESETS


def test_the_choices_are_those_of_the_library():
    assert choices.BENCHMARKS == tuple(bench._groups())
    assert choices.DEVICES == DEVICES
    assert choices.PARTS == (*PARTS, "all", "segmentation")
    assert set(choices.FORMER_PARTS.values()) <= set(choices.PARTS)
    assert set(choices.PRESETS) == {*PRESETS, *SEGMENTATION}
    assert choices.SEGMENTATION_PRESETS == tuple(SEGMENTATION)
    assert choices.SAMPLERS == tuple(SAMPLERS)
    assert (choices.GUIDANCE_SCALE, choices.GUIDANCE_INTERVAL) == (GUIDANCE_SCALE, GUIDANCE_INTERVAL)
    assert choices.SIZES == SIZES
