"""The analyses of the StyleGAN2 paper (arXiv:1912.04958) as functions that compute and functions that draw."""
