"""A FLUX.1-Fill small enough to train: the picture world, the models, their training. See README.md."""
