"""The Early Filter on the host: a resumable sampler, previews, one filter for each picture of a latent."""
