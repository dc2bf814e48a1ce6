"""Applications: each stands alone on the core and needs nothing of the others."""
