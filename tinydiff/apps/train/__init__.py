"""A training as a user starts it: its folder, its lock, its checkpoints, its report."""
