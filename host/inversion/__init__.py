"""Inversion on the host: the sampler that inverts, the model that starts from it, attention values."""
