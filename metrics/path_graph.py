"""The graph of perceptual path lengths: from the ends of paths to distances between images a small step apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dnnlib.tflib.tfutil import tf
from metrics.features import FeatureNetwork
from metrics.images import box_average, to_rgb
from metrics.inputs import Generator
from metrics.noise import IndexedRandom, PairedRandom, latents_of, path_ends_of, path_positions_of
from metrics.path_length import EPSILON, slerp
from metrics.variants import Variant

_PERCEIVED_SIZE = 256  # images of twice this height and more are shrunk towards it


class PathTower(NamedTuple):
    """Fed: begins, ends: latents [n, L]; labels [n, K]; positions float64 [n, 2]: both images of each pair, as
    fractions of the way in w; first_index: of the pairs. Fetched: finite: all images were; distances: by (feature
    network, crop), perceptual distance over epsilon², float32 [n]."""

    begins: tf.Tensor
    ends: tf.Tensor
    labels: tf.Tensor
    positions: tf.Tensor
    first_index: tf.Tensor
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
    latent_size, label_size = Gs.input_shapes[0][1], Gs.input_shapes[1][1]
    begins, ends = (tf.placeholder(tf.float32, [None, latent_size], name=name) for name in ("begins", "ends"))
    labels = tf.placeholder(tf.float32, [None, label_size], name="path_labels")
    positions = tf.placeholder(tf.float64, [None, 2], name="positions")
    first_index = tf.placeholder(tf.int64, [], name="first_pair")
    mapping, synthesis = Gs.components["mapping"], Gs.components["synthesis"]
    w = mapping.get_output_for(tf.concat([begins, ends], axis=0), tf.concat([labels, labels], axis=0))
    # float64 keeps a step of 1e-4 free of rounding until w is what the synthesis takes.
    first, last = tf.split(tf.cast(w, tf.float64), 2)
    fractions = tf.reshape(positions, [-1, 2, *[1] * (w.shape.rank - 1)])
    pairs = [(1 - t) * first + t * last for t in (fractions[:, 0], fractions[:, 1])]
    dlatents = tf.cast(tf.concat(pairs, axis=0), tf.float32)
    # In 16 bits the step would drown in rounding.
    options = {"num_fp16_res": 0} if getattr(synthesis, "static_kwargs", {}).get("num_fp16_res") else {}
    rng = PairedRandom(IndexedRandom(seed, first_index))
    images = synthesis.get_output_for(dlatents, randomize_noise=True, rng=rng, **options)
    images.set_shape([None, *Gs.output_shape[1:]])
    finite = tf.reduce_all(tf.math.is_finite(images))
    pixels = to_rgb((images + 1) * 127.5)
    distances = {
        (name, crop): _distances(pixels, networks[name], crop, variant) for name, crop in dict.fromkeys(wanted)
    }
    return PathTower(begins, ends, labels, positions, first_index, finite, distances)


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
    tower: PathTower, space: str, ends: str, seed: int, indices: np.ndarray, labels: np.ndarray
) -> dict[tf.Tensor, Any]:
    """What makes the tower measure the pairs with these indices; space, ends: as in `PathSampling`."""
    size = tower.begins.shape.as_list()[1]
    first, last = latents = latents_of_path(seed, indices, size)
    t = path_positions_of(seed, indices) if ends == "full" else np.zeros(len(indices))
    if space == "z":
        first, last = slerp(*latents, t), slerp(*latents, t + EPSILON)
        positions = np.stack([np.zeros_like(t), np.ones_like(t)], axis=1)  # the step was taken in z
    else:
        positions = np.stack([t, t + EPSILON], axis=1)
    return {
        tower.begins: first, tower.ends: last, tower.labels: labels, tower.positions: positions,
        tower.first_index: indices[0],
    }  # fmt: skip


def latents_of_path(seed: int, indices: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Begins and ends of the paths with these indices: float32 [n, size] each."""
    return latents_of(seed, indices, size), path_ends_of(seed, indices, size)
