"""Unsharp masking against SciPy's Gaussian, and as an option of the conversion."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.ndimage import gaussian_filter1d

import dataset_tool
from training.dataset import TFRecordDataset
from training.sharpen import sharpen


def expected(pixels, amount):
    """In float64."""
    x = pixels.astype(np.float64)
    blurred = x
    for axis in (0, 1):
        blurred = gaussian_filter1d(blurred, 1.0, axis=axis, mode="mirror", radius=2)
    return np.clip(x + amount * (x - blurred), 0, 255)


@pytest.mark.parametrize(("mode", "channels"), [("L", ()), ("RGB", (3,)), ("RGBA", (4,))])
@pytest.mark.parametrize("amount", [1.0, 0.3])
def test_sharpening_is_the_formula(mode, channels, amount):
    pixels = np.random.RandomState(0).randint(0, 256, (9, 14, *channels)).astype(np.uint8)
    found = sharpen(Image.fromarray(pixels), amount)
    assert found.mode == mode
    colours = slice(None) if mode != "RGBA" else np.s_[..., :3]
    np.testing.assert_allclose(np.asarray(found)[colours], expected(pixels, amount)[colours], atol=0.51)
    if mode == "RGBA":
        assert np.array_equal(np.asarray(found)[..., 3], pixels[..., 3])


def test_conversion_sharpens_after_resizing(tmp_path):
    pixels = np.random.RandomState(1).randint(60, 200, (16, 16, 3)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    for name, options in (("plain", ()), ("sharp", ("--sharpen", "1"))):
        args = ["create_from_images", str(tmp_path / name), str(tmp_path / "in"), "--resolution", "8", *options]
        done = CliRunner().invoke(dataset_tool.cli, args)
        assert done.exit_code == 0, done.output
    plain, sharp = (TFRecordDataset(tmp_path / name).read(np.array([0]))[0] for name in ("plain", "sharp"))
    np.testing.assert_allclose(sharp.transpose(1, 2, 0), expected(plain.transpose(1, 2, 0), 1.0), atol=0.51)
    assert np.abs(sharp.astype(int) - plain).max() > 10
