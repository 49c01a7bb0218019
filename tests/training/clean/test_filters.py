"""Filters of single images: each is shown images of which the right answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from dnnlib.util import UserError
from tests.pictures import photo
from training.clean.brisque import LONGEST_SIDE, BrisqueFilter, brisque_score
from training.clean.colors import ColorsFilter, MonochromeFilter, chroma, count_colors
from training.clean.laplacian import LaplacianFilter, laplacian_variance
from training.clean.picture import Picture, open_picture
from training.clean.size import PixelsFilter, SizeFilter
from training.clean.symmetry import SymmetryFilter, asymmetry, find_mask
from training.clean.verdicts import ImageFilter, Verdict
from training.dataset_build import Item


def verdict_of(one: ImageFilter, pixels: np.ndarray, name: str = "a.png") -> Verdict:
    return one.judge(one.measure(Picture(name, pixels)))


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(pixels, (sigma, sigma, 0)) if sigma else pixels


def test_pictures_are_rgb_whatever_the_decoder_gives(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    picture = open_picture(Item("a", "unused"), lambda item: grey)
    assert picture.pixels.shape == (3, 4, 3) and (picture.width, picture.height) == (4, 3)
    assert (picture.pixels == grey[0][..., None]).all() and (picture.grey == grey[0]).all()
    image = Image.fromarray(photo(0, 6, 9))
    image.save(tmp_path / "a.png")
    assert (open_picture(Item("a", str(tmp_path / "a.png"))).pixels == np.asarray(image)).all()


@pytest.mark.parametrize(("shape", "longest", "expected"), [((40, 20), 10, (10, 5)), ((3, 5), 10, (3, 5))])
def test_shrinking_keeps_the_shape_and_never_enlarges(shape, longest, expected):
    assert Picture("a", np.zeros((*shape, 3), np.uint8)).shrunk(longest).shape == (*expected, 3)


def test_size_is_that_of_the_shorter_side():
    one = SizeFilter(20)
    assert verdict_of(one, np.zeros((20, 99, 3), np.uint8)).keep
    small = verdict_of(one, np.zeros((99, 19, 3), np.uint8))
    assert small == (False, 19, "19x99, shorter side under 20 pixels", None)
    assert "20 pixels" in one.criterion


def test_number_of_pixels():
    assert verdict_of(PixelsFilter(200), np.zeros((20, 10, 3), np.uint8)).keep
    assert not verdict_of(PixelsFilter(201), np.zeros((20, 10, 3), np.uint8)).keep


@pytest.mark.parametrize("seed", range(3))
def test_colors_are_counted_exactly(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 30, 3), np.uint8)
    pixels[:10] = pixels[0, 0]
    assert count_colors(pixels) == len({tuple(color) for color in pixels.reshape(-1, 3).tolist()})


def test_few_colors_are_dropped():
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 1] = np.arange(256).reshape(16, 16)
    assert verdict_of(ColorsFilter(256), pixels).keep
    assert verdict_of(ColorsFilter(257), pixels) == (False, 256, "256 colours, under 257", None)


def test_monochrome_is_told_from_colour(tmp_path):
    color = photo(1)
    grey = np.repeat(np.asarray(Image.fromarray(color).convert("L"))[..., None], 3, -1)
    Image.fromarray(grey).save(tmp_path / "grey.jpg", quality=60)
    one = MonochromeFilter()
    assert chroma(grey) == 0 and not verdict_of(one, grey).keep
    assert not verdict_of(one, np.asarray(Image.open(tmp_path / "grey.jpg").convert("RGB"))).keep
    assert verdict_of(one, color).keep
    # A small coloured thing on grey is colour: 2% of the pixels are more than the hundredth that may be anything.
    spot = grey.copy()
    spot[:20, :20] = (255, 0, 0)
    assert verdict_of(one, spot).keep
    spot[:, :] = grey
    spot[0, :100] = (255, 0, 0)
    assert not verdict_of(one, spot).keep


def test_laplacian_falls_with_blur_and_equals_opencv():
    scores = [laplacian_variance(Picture("a", blurred(photo(2), sigma)).grey) for sigma in (0, 0.7, 1, 2, 4)]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 5
    cv2 = pytest.importorskip("cv2", reason="the library opencv-python-headless is not installed")
    grey = Picture("a", photo(3, 50, 70)).grey
    assert laplacian_variance(grey) == pytest.approx(cv2.Laplacian(grey, cv2.CV_64F).var(), rel=1e-4)


def test_laplacian_threshold():
    value = laplacian_variance(Picture("a", photo(4)).grey)
    assert verdict_of(LaplacianFilter(value * 0.99), photo(4)).keep
    assert not verdict_of(LaplacianFilter(value * 1.01), photo(4)).keep


@pytest.fixture
def brisque():
    for module in ("brisque", "cv2"):
        pytest.importorskip(module, reason=f"the library {module} is not installed")


def photographs() -> list[np.ndarray]:
    data = pytest.importorskip("skimage.data", reason="the library scikit-image is not installed")
    return [data.astronaut()[:256, 100:356], data.coffee()[100:356, 100:356], data.chelsea()[20:276, 60:316]]


def test_brisque_ranks_blur_of_photographs(brisque):
    for image in photographs():
        scores = [brisque_score(blurred(image, sigma)) for sigma in (0, 1, 2, 4)]
        assert scores == sorted(scores) and scores[0] < 30 and scores[-1] > 60
        assert verdict_of(BrisqueFilter(45), image).keep
        worst = verdict_of(BrisqueFilter(45), blurred(image, 4))
        assert not worst.keep and "over 45" in worst.reason


def test_brisque_finds_noise_worse_than_the_photograph(brisque):
    for image in photographs():
        noise = np.random.default_rng(0).normal(0, 40, image.shape)
        noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
        assert brisque_score(noisy) > brisque_score(image) + 10


@pytest.mark.parametrize("shape", [(64, 64), (1, 9), (3, 200), (15, 16)])
def test_brisque_of_nothing_is_dropped_without_a_warning(brisque, shape):
    verdict = verdict_of(BrisqueFilter(100), np.full((*shape, 3), 200, np.uint8))
    assert not verdict.keep and verdict.score == math.inf and "flat or tiny" in verdict.reason


def test_brisque_of_large_images_is_that_of_the_shrunk_image(brisque):
    large = photo(5, 64, LONGEST_SIDE + 100)
    picture = Picture("a", large)
    # Sums of floats in several threads: the last digits are not always the same.
    expected = pytest.approx(brisque_score(picture.shrunk(LONGEST_SIDE)), rel=1e-9)
    assert BrisqueFilter(50).measure(picture) == expected and brisque_score(large) != expected


def test_asymmetry_of_mirrored_and_one_sided_images():
    left = photo(6, 60, 40)
    even = np.concatenate([left, left[:, ::-1]], axis=1)
    odd = np.concatenate([left, photo(7, 60, 1), left[:, ::-1]], axis=1)
    for pixels in (even, odd):
        assert asymmetry(Picture("a", pixels).grey) < 1e-6
        assert verdict_of(SymmetryFilter(0.01), pixels).keep
    disjoint = np.zeros((40, 40), np.uint8)
    disjoint[:20, :20] = disjoint[20:, 20:] = 255
    assert asymmetry(disjoint) == 1
    one_sided = np.zeros((40, 40), np.uint8)
    one_sided[:, :20] = 255
    assert asymmetry(one_sided) == 1
    assert asymmetry(np.zeros((4, 4), np.uint8)) == 0


def test_asymmetry_by_hand():
    # Rows sums: left (3, 1), right (1, 3), each 4 in all. Coefficient: (sqrt(3) + sqrt(3)) / 4.
    grey = np.array([[3, 1], [1, 3]], np.uint8)
    assert asymmetry(grey) == pytest.approx(math.sqrt(1 - math.sqrt(3) / 2))
    assert asymmetry(grey) > asymmetry(np.array([[3, 2], [1, 2]], np.uint8)) > 0


def test_asymmetry_equals_opencv():
    cv2 = pytest.importorskip("cv2", reason="the library opencv-python-headless is not installed")
    grey = Picture("a", photo(8, 50, 64)).grey.copy()
    grey[:25, :32] //= 3
    halves = [cv2.reduce(grey[:, part], 1, cv2.REDUCE_SUM, dtype=cv2.CV_32F) for part in (slice(0, 32), slice(32, 64))]
    assert asymmetry(grey) == pytest.approx(cv2.compareHist(*halves, cv2.HISTCMP_BHATTACHARYYA), rel=1e-4)


def test_masks_are_found_by_name_and_judged_in_place_of_the_image(tmp_path):
    good, bad = np.zeros((30, 30), np.uint8), np.zeros((30, 30), np.uint8)
    good[10:20, 5:25] = 255
    bad[0:10, 0:15] = bad[20:, 15:] = 255
    (tmp_path / "sub").mkdir()
    Image.fromarray(good).save(tmp_path / "sub" / "x.png")
    Image.fromarray(bad).save(tmp_path / "y.jpg.png")
    Image.fromarray(bad * 0).save(tmp_path / "empty.png")
    (tmp_path / "broken.png").write_text("no image")
    assert find_mask(str(tmp_path), "sub/x.jpg") == tmp_path / "sub" / "x.png"
    assert find_mask(str(tmp_path), "x.jpg") is None
    one = SymmetryFilter(0.06, str(tmp_path))
    pixels = photo(9, 30, 30)
    assert verdict_of(one, pixels, "sub/x.jpg").keep
    assert verdict_of(one, pixels, "y.jpg.webp").score > 0.9
    for name, text in (("z.png", "no mask of that name"), ("empty.png", "is empty"), ("broken.png", "cannot be read")):
        verdict = verdict_of(one, pixels, name)
        assert not verdict.keep and text in verdict.reason
    with pytest.raises(UserError, match="nowhere is no folder, expected one with a mask"):
        SymmetryFilter(0.06, str(tmp_path / "nowhere"))
