"""Noise maps of projections against closed forms and numpy's Fourier transform."""

import numpy as np
import pytest

from training.projection.noise_maps import GivenNoise, noise_regularization, normalize_noise


def reference(noise, gain):
    """By the Wiener-Khinchin theorem: circular autocorrelation is the inverse transform of the power spectrum."""
    total = 0.0
    while True:
        power = np.abs(np.fft.fft2(noise)) ** 2
        correlation = np.fft.ifft2(power).real / noise.size
        total += correlation[1, 0] ** 2 + correlation[0, 1] ** 2
        if min(noise.shape) <= 8 or noise.shape[0] % 2 or noise.shape[1] % 2:
            return total
        noise = gain * (noise[::2, ::2] + noise[1::2, ::2] + noise[::2, 1::2] + noise[1::2, 1::2]) / 4


@pytest.mark.parametrize("gain", [1.0, 2.0])
@pytest.mark.parametrize("shape", [(4, 4), (8, 8), (32, 32), (16, 48), (12, 20), (64, 16)])
def test_regularization_against_fourier_transform(session, shape, gain):
    noise = np.random.RandomState(1).randn(3, 1, *shape).astype(np.float32) + 0.5
    found = session.run(noise_regularization(noise_tensor(noise), gain))
    np.testing.assert_allclose(found, [reference(x[0].astype(np.float64), gain) for x in noise], rtol=1e-4)


def noise_tensor(noise):
    from dnnlib.tflib.tfutil import tf

    return tf.constant(noise)


def test_regularization_in_closed_form(session):
    y, x = np.mgrid[:16, :16]
    maps = {
        # One level of 16 and one of 8, two directions each.
        "constant": (np.ones([16, 16]), 1, 4.0),
        "constant, paper": (np.ones([16, 16]), 2, 2 + 2 * 4.0**2),
        # A chessboard is opposite to its neighbours; its averages are 0.
        "chessboard": ((-1.0) ** (x + y), 1, 2.0),
        # Stripes of one pixel: -1 across, 1 along.
        "stripes": ((-1.0) ** x, 1, 2.0),
        # Stripes of two pixels: 0 across, 1 along; halved they are stripes of one pixel.
        "wide stripes": ((-1.0) ** (x // 2), 1, 1 + 2.0),
        # A single pixel meets itself nowhere.
        "one pixel": ((x + y == 0) * 16.0, 1, 0.0),
    }
    for name, (noise, gain, expected) in maps.items():
        found = session.run(noise_regularization(noise_tensor(noise[None, None].astype(np.float32)), gain))
        np.testing.assert_allclose(found, [expected], atol=1e-6, err_msg=name)


def test_white_noise_is_nearly_free(session):
    noise = np.random.RandomState(0).randn(4, 1, 64, 64).astype(np.float32)
    white = session.run(noise_regularization(noise_tensor(noise)))
    smooth = session.run(noise_regularization(noise_tensor(noise + np.roll(noise, 1, axis=3))))
    assert (white < 0.01).all()
    assert (smooth > 0.9).all()


def test_normalized_maps(session):
    noise = np.random.RandomState(2).randn(3, 1, 8, 4).astype(np.float32) * 3 + 7
    found = session.run(normalize_noise(noise_tensor(noise)))
    expected = (noise - noise.mean((2, 3), keepdims=True)) / noise.std((2, 3), keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_given_noise_gives_nothing_else(session):
    source = GivenNoise({"noise0": noise_tensor(np.ones([1, 1, 4, 4], np.float32))})
    assert session.run(source.normal("noise0", [1, 1, 4, 4])).sum() == 16
    with pytest.raises(ValueError, match="mix_uniform"):
        source.uniform("mix_uniform", [])
    with pytest.raises(ValueError, match="mix_cutoff"):
        source.integers("mix_cutoff", [], 1, 3)
