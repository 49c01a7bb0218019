"""The graph of perceptual path lengths: from the ends of paths to distances between images a small step apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dnnlib.tflib.tfutil import tf
from metrics.fakes import FakeInputs, fake_inputs, with_shape
from metrics.features import FeatureNetwork
from metrics.images import box_average, to_rgb
from metrics.inputs import Generator
from metrics.noise import IndexedRandom, PairedRandom, latents_of, path_ends_of, path_positions_of
from metrics.path_length import EPSILON, slerp
from metrics.variants import Variant

_PERCEIVED_SIZE = 256  # images of twice this height and more are shrunk towards it


class PathTower(NamedTuple):
    """Fed: inputs: labels, first index, and the latents where paths begin; ends: latents [n, L]; positions float64
    [n, 2]: both images of each pair, as fractions of the way in w. Fetched: finite: all images were; distances: by
    (feature network, crop), perceptual distance over epsilon², float32 [n]."""

    inputs: FakeInputs
    ends: tf.Tensor
    positions: tf.Tensor
    finite: tf.Tensor
    distances: dict[tuple[str, bool], tf.Tensor]


def build_path_tower(
    Gs: Generator,  # noqa: N803
    wanted: Iterable[tuple[str, bool]],
    networks: Mapping[str, FeatureNetwork],
    seed: int,
    variant: Variant,
) -> PathTower:
    """Adds the graph of one tower; wanted: (feature network, crop) of every distance that will be asked for."""
    inputs = fake_inputs(Gs)
    ends = tf.placeholder(tf.float32, inputs.latents.shape, name="ends")
    positions = tf.placeholder(tf.float64, [None, 2], name="positions")
    mapping, synthesis = Gs.components["mapping"], Gs.components["synthesis"]
    labels = tf.concat([inputs.labels] * 2, axis=0)
    w = mapping.get_output_for(tf.concat([inputs.latents, ends], axis=0), labels)
    # float64 keeps a step of 1e-4 free of rounding until w is what the synthesis takes.
    first, last = tf.split(tf.cast(w, tf.float64), 2)
    fractions = tf.reshape(positions, [-1, 2, *[1] * (w.shape.rank - 1)])
    pairs = [(1 - t) * first + t * last for t in (fractions[:, 0], fractions[:, 1])]
    dlatents = tf.cast(tf.concat(pairs, axis=0), tf.float32)
    # In 16 bits the step would drown in rounding.
    options = {"num_fp16_res": 0} if getattr(synthesis, "static_kwargs", {}).get("num_fp16_res") else {}
    rng = PairedRandom(IndexedRandom(seed, inputs.first_index))
    images = synthesis.get_output_for(dlatents, randomize_noise=True, rng=rng, **options)
    images, finite = with_shape(images, Gs)
    pixels = to_rgb((images + 1) * 127.5)
    distances = {
        (name, crop): _distances(pixels, networks[name], crop, variant) for name, crop in dict.fromkeys(wanted)
    }
    return PathTower(inputs, ends, positions, finite, distances)


def face_crop(images: tf.Tensor) -> tf.Tensor:
    """Where a face is in pictures [N, C, H, W] of aligned ones: rows 3/8 to 7/8, columns 2/8 to 6/8."""
    height, width = (size // 8 for size in images.shape[2:].as_list())
    return images[:, :, 3 * height : 7 * height, 2 * width : 6 * width]


def perceived_size(height: int, width: int, crop: bool, variant: Variant) -> tuple[int, int, int]:
    """(height, width, factor): size of what the network sees of images of this size, and by how much it was shrunk."""
    rows, columns = (height // 8 * 4, width // 8 * 4) if crop else (height, width)
    factor = max((rows if variant.box_of_crop else height) // _PERCEIVED_SIZE, 1)
    return rows // factor, columns // factor, factor


def describe_preprocessing(network: FeatureNetwork, height: int, width: int, crop: bool, variant: Variant) -> str:
    """What happens to images of this size, for the record of a result."""
    *size, factor = perceived_size(height, width, crop, variant)
    resize = network.resize_name(*size)
    steps = ["face crop"] * crop + [f"box average of {factor}x{factor}"] * (factor > 1) + [resize] * (resize != "none")
    return ", ".join(steps) or "none"


def _distances(pixels: tf.Tensor, network: FeatureNetwork, crop: bool, variant: Variant) -> tf.Tensor:
    *_, factor = perceived_size(*pixels.shape[2:].as_list(), crop, variant)
    embedded = network.perceptual(box_average(face_crop(pixels) if crop else pixels, factor))
    one, other = tf.split(embedded, 2)
    return tf.reduce_sum(tf.math.squared_difference(one, other), axis=1) / EPSILON**2


def path_feeds(
    tower: PathTower, space: str, ends: str, seed: int, indices: np.ndarray, labels: np.ndarray, variant: Variant
) -> dict[tf.Tensor, Any]:
    """What makes the tower measure the pairs with these indices; space, ends: as in `PathSampling`."""
    size = tower.ends.shape.as_list()[1]
    first, last = latents = latents_of_path(seed, indices, size)
    t = path_positions_of(seed, indices) if ends == "full" else np.zeros(len(indices))
    if space == "z":
        length = 1 if variant.unit_paths else np.sqrt(size)
        first, last = (length * slerp(*latents, at) for at in (t, t + EPSILON))
        positions = np.stack([np.zeros_like(t), np.ones_like(t)], axis=1)  # the step was taken in z
    else:
        positions = np.stack([t, t + EPSILON], axis=1)
    shared = tower.inputs.feeds(seed, indices, labels)
    return shared | {tower.inputs.latents: first, tower.ends: last, tower.positions: positions}


def latents_of_path(seed: int, indices: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Begins and ends of the paths with these indices: float32 [n, size] each."""
    return latents_of(seed, indices, size), path_ends_of(seed, indices, size)
