"""A tiny FLUX.1-Fill with everything around it, random weights, about 15 MB: proves the wiring anywhere."""
