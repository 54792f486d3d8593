"""Inversion on the host: the sampler that inverts, the model that replays the inversion, attention values."""
