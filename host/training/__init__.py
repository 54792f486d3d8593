"""Training an adapter on the host's FLUX.1-Fill: encoded pairs, gradients through its layers, samples, files."""
