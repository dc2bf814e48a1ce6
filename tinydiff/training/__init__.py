"""Training: optimiser, loop, checkpoints, and what each part learns from; `run.train` is the whole."""
