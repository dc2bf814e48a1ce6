"""What the command line offers, as data: it imports nothing, so that `--help` and mistakes answer at once.

Each is another module's (samplers, presets, groups …) and tests hold the two equal.
"""

BENCHMARKS = ("conv", "ladder", "step", "sampling", "inference", "memory", "threads")
DEVICES = ("cpu", "cuda")
PARTS = ("autoencoder", "words", "denoiser", "classifier", "all", "segmentation")
FORMER_PARTS = {"judge": "classifier"}
PRESETS = ("quick", "full", "full-48", "full-iadb", "pixels", "pixels-iadb", "paper")
SEGMENTATION_PRESETS = ("quick", "full", "paper")
SAMPLERS = ("ddim", "ddpm", "dpm", "heun", "plms", "euler", "euler-ancestral")
GUIDANCE_SCALE, GUIDANCE_INTERVAL = 5.0, (0.0, 0.7)
SIZES = (32, 64)  # pixels that your own images are brought to
