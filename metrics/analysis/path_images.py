"""Perceptual path length of single images, and what images with short and long paths look like (figures 4 and 5).

The path of image i: w_i = f(z_i), and w_i moved by epsilon towards the w of another random z. The score is the
squared perceptual distance of both images, which share their noise, over epsilon^2; the whole image counts. The mean
over images, without the lowest and highest percent, is what `ppl2_wend` measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.analysis.pictures import show_grid
from metrics.analysis.samples import Generator, Samples, default_batch
from metrics.features import FeatureNetwork
from metrics.images import all_finite, box_average, to_rgb
from metrics.path_length import EPSILON, path_length
from metrics.report_plots import COLORS, format_number, new_figure, style, to_png
from metrics.towers import Stream, on_devices

LOW, HIGH = 10, 90  # percentiles
_MOST_PIXELS = 256  # images are averaged down to this height, as the published metric does


@dataclass(frozen=True)
class PathScores:
    """Scores float64 [N] of samples 0 ... N - 1, and the name of the distance that they are in."""

    values: np.ndarray
    distance: str

    @property
    def trimmed_mean(self) -> float:
        """Mean of the values between the 1st and the 99th percentile."""
        return path_length(self.values)

    def below(self, percentile: float) -> np.ndarray:
        """Samples up to that percentile."""
        return np.flatnonzero(self.values <= np.percentile(self.values, percentile))

    def above(self, percentile: float) -> np.ndarray:
        """Samples from that percentile on."""
        return np.flatnonzero(self.values >= np.percentile(self.values, percentile))


class PathGraph:
    """The graph for path scores of a generator. Everything is added to the default graph when this is made.

    network: gives the distance: of its perceptual embedding where it has one, else of its features, and then the
    scores are not those of the paper, as `distance` says. labels: as `given` of `Samples`; num_gpus: devices that share
    the work, which changes no sample.
    """

    def __init__(
        self,
        Gs: Generator,  # noqa: N803
        network: FeatureNetwork,
        seed: int = 0,
        epsilon: float = EPSILON,
        labels: np.ndarray | None = None,
        num_gpus: int = 1,
    ) -> None:
        self.resolution = int(Gs.output_shape[2])
        perceptual = getattr(network, "perceptual", None)
        kind = "perceptual distance" if perceptual else "squared distance of features"
        self.distance = f"{kind} ({network.name})"
        embed = perceptual or network.features
        self._towers = on_devices(num_gpus, lambda: _build_tower(Gs, embed, seed, epsilon, labels))

    def scores(self, count: int, batch: int | None = None) -> PathScores:
        """Scores of samples 0 ... count - 1. Raises `UserError` if one, or a value of an image, is not finite."""
        stream = Stream(self._towers, batch or default_batch(self.resolution), progress=False)
        parts = stream(lambda tower, indices: (tower.scores, tower.finite, tower.feed(indices)), count, "pairs")
        values = np.concatenate(list(parts)).astype(np.float64)
        if not np.isfinite(values).all():
            raise UserError("the network made images with values that are not finite: the training has diverged")
        return PathScores(values, self.distance)

    def images(self, samples: Sequence[int]) -> np.ndarray:
        """uint8 [n, C, H, W] of samples by their index, the same that were scored."""
        tower = self._towers[0]
        return np.concatenate([tfutil.run(tower.images, tower.feed(np.array([index]))) for index in samples])


class _Tower(NamedTuple):
    """Inputs of both ends of the paths, and what one device makes of them: images uint8 [N, C, H, W], scores [N];
    finite: all values of all images were."""

    first: Samples
    second: Samples
    images: tf.Tensor
    scores: tf.Tensor
    finite: tf.Tensor

    def feed(self, indices: np.ndarray) -> dict[tf.Tensor, Any]:
        """What to feed for the paths with these indices."""
        first = self.first.feed(indices)
        # Both ends of a path are of one class.
        return first | self.second.feed(indices) | {self.second.labels: first[self.first.labels]}


def _build_tower(
    Gs: Generator,  # noqa: N803
    embed: Callable[[tf.Tensor], tf.Tensor],
    seed: int,
    epsilon: float,
    labels: np.ndarray | None,
) -> _Tower:
    first, second = Samples(Gs, seed, given=labels), Samples(Gs, seed, stream=1, given=labels)
    synthesis = Gs.components.synthesis
    # In half precision both images would round to the same one.
    options: dict[str, Any] = {"num_fp16_res": 0} if synthesis.static_kwargs.get("num_fp16_res") else {}
    w = first.dlatents
    moved = w + (second.dlatents - w) * epsilon
    pair = [synthesis.get_output_for(x, randomize_noise=True, rng=first.rng, **options) for x in (w, moved)]
    a, b = (embed(_prepare(images)) for images in pair)
    scores = tf.reduce_sum(tf.square(a - b), axis=1) / epsilon**2
    # Looked for in the images themselves: the activations of a network may hide it.
    finite = tf.reduce_all([all_finite(images) for images in pair])
    return _Tower(first, second, tfutil.convert_images_to_uint8(pair[0]), scores, finite)


def _prepare(images: tf.Tensor) -> tf.Tensor:
    """Generator output [N, C, H, W] in [-1, 1] to float32 [N, 3, h, w] in 0..255, h at most 256; not rounded."""
    pixels = (tf.cast(images, tf.float32) + 1) * 127.5
    return box_average(to_rgb(pixels), int(images.shape[2]) // _MOST_PIXELS)


def choose_examples(scores: PathScores, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random samples up to the 10th and from the 90th percentile: at most `count` of each."""
    rng = np.random.default_rng(seed)
    low, high = scores.below(LOW), scores.above(HIGH)
    return tuple(np.sort(rng.permutation(group)[:count]) for group in (low, high))  # type: ignore[return-value]


def plot_paths(scores: PathScores, low_images: np.ndarray, high_images: np.ndarray, title: str) -> bytes:
    """PNG: histogram with both ends marked, and below it the images of the low and of the high end."""
    values = scores.values
    low, high = np.percentile(values, [LOW, HIGH])
    end = float(np.percentile(values, 99)) * 1.05
    beyond = int((values > end).sum())
    with style():
        figure = new_figure(9.0, 7.6)
        layout = figure.add_gridspec(2, 2, height_ratios=(1, 1.35))
        axes = figure.add_subplot(layout[0, :])
        edges = np.linspace(0, end if end > 0 else 1, 61)
        counts, _ = np.histogram(values, edges)
        centers = (edges[:-1] + edges[1:]) / 2
        at_ends = (centers <= low) | (centers >= high)
        colors = np.where(at_ends, COLORS[4], COLORS[5])
        axes.bar(centers, counts, width=edges[1] * 0.95, color=list(colors))
        axes.axvline(values.mean(), color=COLORS[6], lw=1, ls="--")
        axes.text(values.mean(), axes.get_ylim()[1], f" mean {format_number(float(values.mean()))}", va="top")
        axes.set(xlim=(0, edges[-1]), ylabel=f"of {len(values)} images", title=title)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        lie = "images lie" if beyond > 1 else "image lies"
        rest = f"; {beyond} {lie} beyond the right edge" if beyond else ""
        axes.set_xlabel(f"score of an image: {scores.distance} / epsilon^2{rest}\n"
                        f"orange: up to the {LOW}th and from the {HIGH}th percentile")  # fmt: skip
        show_grid(figure.add_subplot(layout[1, 0]), low_images, f"low: at most {format_number(float(low))}")
        show_grid(figure.add_subplot(layout[1, 1]), high_images, f"high: at least {format_number(float(high))}")
        return to_png(figure)
