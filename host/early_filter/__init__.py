"""The Early Filter on the host: resumable sampling, previews, one filter for each picture of a latent."""
