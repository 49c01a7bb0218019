"""Projection of images to latent space (paper section 5 and appendix D): image -> w and noise maps."""
