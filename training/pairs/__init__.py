"""Pairs of pictures with instructions: read, checked, sorted into sizes."""
