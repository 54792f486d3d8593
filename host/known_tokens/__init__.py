"""Reusing known tokens on the host: the model's calls of one sampling run, full and short."""
