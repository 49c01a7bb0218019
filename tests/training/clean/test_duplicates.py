"""Exact and near duplicates: copies of known kinds are found, and others are not."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy import ndimage

from tests.pictures import photo
from training.clean.detail import detail
from training.clean.exact import ExactDuplicates
from training.clean.hamming import MOST_BITS, HammingIndex, popcount
from training.clean.near import NearDuplicates
from training.clean.picture import Picture
from training.clean.verdicts import SetFilter, Verdict


def verdicts_of(one: SetFilter, pictures: dict[str, np.ndarray]) -> dict[str, Verdict]:
    measures = [one.measure(Picture(name, pixels)) for name, pixels in pictures.items()]
    return dict(zip(pictures, decided(one, list(pictures), measures), strict=True))


def decided(one: SetFilter, names: list[str], measures: list) -> list[Verdict]:
    """Verdicts about all: those that are not dropped are kept."""
    verdicts = [Verdict(True, math.nan)] * len(names)
    for index, verdict in one.decide(names, measures):
        verdicts[index] = verdict
    return verdicts


def dropped(verdicts: dict[str, Verdict]) -> set[str]:
    return {name for name, verdict in verdicts.items() if not verdict.keep}


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50))
def test_popcount(values):
    assert popcount(np.array(values, np.uint64)).tolist() == [value.bit_count() for value in values]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, MOST_BITS), st.integers(0, 2**32 - 1))
def test_index_finds_what_brute_force_finds(bits, seed):
    rng = np.random.default_rng(seed)
    stored = [int(value) for value in rng.integers(0, 2**64, 40, np.uint64)]
    # Neighbours at distances around the threshold; random hashes are about 32 bits apart.
    for value in stored[:20]:
        for flips in (0, 1, bits, bits + 1):
            places = rng.choice(64, flips, replace=False)
            stored.append(value ^ sum(1 << int(place) for place in places))
    index = HammingIndex(bits)
    for key, value in enumerate(stored):
        index.add(value, key)
    for value in stored[:30]:
        expected = sorted(
            ((value ^ other).bit_count(), key)
            for key, other in enumerate(stored)
            if (value ^ other).bit_count() <= bits
        )
        assert index.near(value) == expected


@pytest.mark.parametrize("bits", [-1, MOST_BITS + 1])
def test_index_refuses_too_many_bits(bits):
    with pytest.raises(ValueError, match=f"bits is {bits}"):
        HammingIndex(bits)


def test_exact_duplicates_are_the_same_pixels_only():
    image = photo(0)
    nearly = image.copy()
    nearly[5, 5, 0] ^= 1
    pictures = {
        "a": image, "b": nearly, "c": image.copy(), "d": image[:, ::-1].copy(), "e": image.reshape(64, 256, 3),
        "f": image.copy(),
    }  # fmt: skip
    verdicts = verdicts_of(ExactDuplicates(), pictures)
    assert dropped(verdicts) == {"c", "f"}
    assert verdicts["f"].reason == "same pixels as a" and verdicts["f"].twin == 0


@pytest.fixture
def imagehash():
    return pytest.importorskip("imagehash", reason="the library ImageHash is not installed")


def test_hash_is_that_of_the_library(imagehash):
    from training.clean.near import perceptual_hash

    image = Image.fromarray(photo(1))
    assert f"{perceptual_hash(image):016x}" == str(imagehash.phash(image))


def test_copies_are_found_and_the_largest_with_most_detail_stays(imagehash):
    pictures = {f"other{seed}": photo(seed, 200, 200) for seed in range(20, 40)}
    pictures |= {
        "small": resized(photo(0, 200, 200), 90, 90),
        "bad jpeg": jpeg(photo(0, 200, 200), 20),
        "original": photo(0, 200, 200),
        "stretched": resized(photo(0, 200, 200), 100, 150),
        "darker": (photo(0, 200, 200) * 0.9).astype(np.uint8),
        "mirrored": photo(0, 200, 200)[:, ::-1].copy(),
    }
    verdicts = verdicts_of(NearDuplicates(4), pictures)
    assert dropped(verdicts) == {"small", "bad jpeg", "stretched", "darker"}
    for name in dropped(verdicts):
        assert "looks like original (" in verdicts[name].reason
        assert list(pictures)[verdicts[name].twin] == "original" and 0 <= verdicts[name].score <= 4
    assert dropped(verdicts_of(NearDuplicates(4, mirror=True), pictures)) == dropped(verdicts) | {"mirrored"}

    # The order does not matter, and a larger one beats one with more detail.
    reverse = dict(reversed(pictures.items())) | {"large": resized(photo(0, 200, 200), 400, 400)}
    verdicts = verdicts_of(NearDuplicates(4), reverse)
    assert dropped(verdicts) == {"small", "bad jpeg", "stretched", "darker", "original"}
    assert all("looks like large" in verdicts[name].reason for name in dropped(verdicts))


def test_detail_falls_with_compression_and_blur():
    image = photo(2, 160, 160)
    worse_and_worse = [image, *(jpeg(image, quality) for quality in (60, 30, 10))]
    blurs = [image, *(ndimage.gaussian_filter(image, (sigma, sigma, 0)) for sigma in (0.5, 1, 2, 4))]
    for copies in (worse_and_worse, blurs):
        values = [detail(Picture("a", copy).grey) for copy in copies]
        assert values == sorted(values, reverse=True) and len(set(values)) == len(values)
    assert detail(np.full((1, 1), 7, np.uint8)) == 0
    # Steps of 0 and 1 across, equally often: 1 bit; none down: 0 bits.
    assert detail(np.tile(np.array([0, 0, 1, 1, 2], np.uint8), (6, 1))) == pytest.approx(0.5)


def test_the_threshold_is_in_bits_and_there_are_no_chains(imagehash):
    from training.clean.near import NearMeasure

    def measured(value: int, pixels: int) -> NearMeasure:
        return NearMeasure(value, value, pixels, 0.0, bytes(48))

    # b is near a and c, but a and c are not near one another.
    names, measures = ["a", "b", "c"], [measured(0b00000, 9), measured(0b00111, 8), measured(0b11111, 7)]
    assert [one.keep for one in decided(NearDuplicates(3), names, measures)] == [True, False, True]
    assert [one.keep for one in decided(NearDuplicates(2), names, measures)] == [True, True, False]
    assert [one.keep for one in decided(NearDuplicates(1), names, measures)] == [True, True, True]
    # If b is the largest, both others are near it.
    measures[1] = measured(0b00111, 10)
    assert [one.keep for one in decided(NearDuplicates(3), names, measures)] == [False, True, False]


def test_other_colours_are_another_image(imagehash):
    yellow = np.full((64, 64, 3), 255, np.uint8)
    yellow[16:48, 16:48] = (255, 220, 90)
    brown = np.full((64, 64, 3), 255, np.uint8)
    brown[16:48, 16:48] = (100, 70, 40)
    one = NearDuplicates(8)
    hashes = [one.measure(Picture(name, pixels)).hash for name, pixels in (("y", yellow), ("b", brown))]
    assert (hashes[0] ^ hashes[1]).bit_count() <= 8
    assert not dropped(verdicts_of(one, {"y": yellow, "b": brown}))


def test_mirrored_colours_are_compared_with_the_mirrored_ones(imagehash):
    base = np.asarray(ImageOps.grayscale(Image.fromarray(photo(3, 96, 96))))
    image = np.repeat(base[..., None], 3, -1).astype(np.float64)
    image[:, :48] *= (1, 0.4, 0.4)
    image = image.astype(np.uint8)
    pictures = {"a": image, "b": image[:, ::-1].copy()}
    assert dropped(verdicts_of(NearDuplicates(4, mirror=True), pictures)) == {"b"}
