"""Training: optimiser, loop, presets, and what each part learns from; `apps/train/run.py` runs the whole."""
