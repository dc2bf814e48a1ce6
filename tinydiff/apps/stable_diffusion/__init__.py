"""Stable Diffusion 1.x: what its files and its users expect beyond the models themselves."""
