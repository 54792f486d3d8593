"""What judges need of the host: CLIP models and text generation."""
