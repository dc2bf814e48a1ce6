"""How good are the images: a classifier's answers, distances between sets of images, and what they teach."""
