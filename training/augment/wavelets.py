"""Frequency bands for the image-space filter, made of the symlet with two vanishing moments (ADA paper, appendix B)."""

from __future__ import annotations

import numpy as np

SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
# Expected power of the bands of natural images, which obey 1 / f; sums to 1.
BAND_POWER = np.array([10, 1, 1, 1]) / 13


def filter_bank(num_bands: int = 4) -> np.ndarray:
    """Symmetric filters that sum to a unit impulse: float64 [num_bands, taps], 43 taps for 4 bands.

    Band 0 holds the lowest frequencies. H(z) H(1/z) / 2 of lowpass and highpass filter are symmetric and sum to 1; one
    octave after the other, what is there is stretched and lowpassed, and the highpass becomes the next band.
    """
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    signs = (-1) ** np.arange(len(SYM2))
    high = np.convolve(SYM2 * signs, (SYM2 * signs)[::-1]) / 2
    bank = np.eye(num_bands, 1)
    for band in range(1, num_bands):
        stretched = np.zeros([num_bands, 2 * bank.shape[1] - 1])
        stretched[:, ::2] = bank
        bank = np.stack([np.convolve(row, low) for row in stretched])
        first = (bank.shape[1] - len(high)) // 2
        bank[band, first : first + len(high)] += high
    return bank
