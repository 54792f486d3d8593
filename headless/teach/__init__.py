"""Training on pairs of pictures from the command line."""
