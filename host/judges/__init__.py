"""CLIP models and text generation of the host, for judges."""
