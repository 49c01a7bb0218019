"""The training images nearest to samples in a feature space: does the generator invent, or remember?

A distance alone says little, so training images are looked up in the same way: how far is their nearest other one?
Samples that are much nearer than that to some training image may be copies of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.analysis.pictures import show_image
from metrics.analysis.samples import Generator, Samples, batches, default_batch
from metrics.features import FeatureNetwork
from metrics.images import to_bytes_and_finite, to_rgb
from metrics.inputs import Dataset
from metrics.progress import progress_bar
from metrics.report_plots import format_number, new_figure, style, to_png
from metrics.towers import Stream, on_devices


@dataclass(frozen=True)
class Neighbours:
    """The nearest training images of some queries, nearest first.

    distances: float64 [queries, k], Euclidean; indices: int64 [queries, k], of images in the data set; mirrored: bool
    [queries, k], whether the mirror image is what is near.
    """

    distances: np.ndarray
    indices: np.ndarray
    mirrored: np.ndarray


class NearestSearch:
    """Keeps the k nearest of a stream of points for some queries: memory for queries x (k + one batch).

    queries: float [n, D]; excluded: int64 [n], an index that does not count for each query, -1: none.
    """

    def __init__(self, queries: np.ndarray, k: int, excluded: np.ndarray | None = None) -> None:
        n = len(queries)
        self._queries, self._k = np.asarray(queries, np.float64), k
        self._excluded = np.full(n, -1) if excluded is None else np.asarray(excluded)
        self._distances = np.zeros((n, 0))
        self._indices, self._mirrored = np.zeros((n, 0), np.int64), np.zeros((n, 0), bool)

    def add(self, points: np.ndarray, indices: np.ndarray, mirrored: np.ndarray) -> None:
        """Points [m, D] with the indices [m] of their images. Of both orientations of an image the nearer counts."""
        distances = cdist(self._queries, np.asarray(points, np.float64))
        distances[self._excluded[:, None] == indices[None]] = np.inf
        tile = np.ones((len(self._queries), 1), bool)
        all_distances = np.concatenate([self._distances, distances], axis=1)
        all_indices = np.concatenate([self._indices, tile * indices], axis=1)
        all_mirrored = np.concatenate([self._mirrored, tile & mirrored], axis=1)
        order = np.argsort(all_distances, axis=1, kind="stable")
        kept = [self._first_of_each(row[line], self._k) for row, line in zip(all_indices, order, strict=True)]
        width = min(map(len, kept), default=0)
        chosen = np.stack([line[pick[:width]] for line, pick in zip(order, kept, strict=True)])
        self._distances, self._indices, self._mirrored = (
            np.take_along_axis(x, chosen, axis=1) for x in (all_distances, all_indices, all_mirrored)
        )

    @staticmethod
    def _first_of_each(indices: np.ndarray, k: int) -> np.ndarray:
        """Positions, rising, where one of the first k different numbers comes for the first time."""
        return np.sort(np.unique(indices, return_index=True)[1])[:k]

    def result(self) -> Neighbours:
        """The nearest so far; excluded points never stand in it."""
        width = int(np.isfinite(self._distances).sum(axis=1).min(initial=self._k))
        return Neighbours(*(x[:, :width] for x in (self._distances, self._indices, self._mirrored)))


@dataclass(frozen=True)
class NeighbourReport:
    """samples: uint8 [n, C, H, W]; found: their neighbours; real_distances: float64 [m], from training images, chosen
    at random, to their nearest other one; feature_network: name; num_real: training images that were looked at.
    """

    samples: np.ndarray
    found: Neighbours
    real_distances: np.ndarray
    feature_network: str
    num_real: int

    @property
    def suspects(self) -> np.ndarray:
        """Samples less than half as far from a training image as training images, in the median, from each other."""
        if not self.found.distances.shape[1] or not len(self.real_distances):
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.found.distances[:, 0] < np.median(self.real_distances) / 2)


def find_neighbours(
    Gs: Generator,  # noqa: N803
    dataset: Dataset,
    network: FeatureNetwork,
    count: int = 8,
    k: int = 5,
    seed: int = 0,
    mirror: bool = False,
    num_references: int = 200,
    batch: int | None = None,
    progress: bool = False,
    labels: np.ndarray | None = None,
    num_gpus: int = 1,
) -> NeighbourReport:
    """Nearest training images of samples 0 ... count - 1 (not truncated). mirror: mirror images count too.

    num_references: training images that are looked up in the same way; labels: as `given` of `Samples`; num_gpus:
    devices that share the work. Raises `UserError` if shapes differ or images are not finite.
    """
    shape = list(Gs.output_shape[1:])
    if shape != list(dataset.shape):
        raise UserError(
            f"the network makes images of shape {shape}, those of {dataset.name} have {list(dataset.shape)}"
        )
    batch = batch or default_batch(shape[1])
    inputs = Samples(Gs, seed, given=labels)
    fakes, finite = to_bytes_and_finite(
        Gs.components.synthesis.get_output_for(inputs.dlatents, randomize_noise=True, rng=inputs.rng)
    )

    def build() -> tuple[tf.Tensor, tf.Tensor]:
        fed = tf.placeholder(tf.uint8, [None, *shape])
        return fed, network.features(to_rgb(fed))

    stream = Stream(on_devices(num_gpus, build), batch, progress=False)

    parts = [tfutil.run((fakes, finite), inputs.feed(indices)) for indices in batches(count, batch)]
    if not all(ok for _, ok in parts):
        raise UserError("the network made images with values that are not finite: the training has diverged")
    samples = np.concatenate([images for images, _ in parts])

    def look(images: np.ndarray) -> np.ndarray:
        parts = stream(lambda tower, i: (tower[1], None, {tower[0]: images[i]}), len(images), "images")
        return np.concatenate(list(parts))

    references = np.random.default_rng(seed).permutation(dataset.num_images)[:num_references]
    of_references = np.concatenate([look(dataset.read(references[i])) for i in batches(len(references), batch)])
    of_samples = NearestSearch(look(samples), k)
    of_reals = NearestSearch(of_references, 1, excluded=references)
    with progress_bar(dataset.num_images, "training images", "img", shown=progress) as bar:
        for indices in batches(dataset.num_images, num_gpus * batch):
            images = dataset.read(indices)
            for flip in (False, True) if mirror else (False,):
                points = look(images[..., ::-1] if flip else images)
                for search in (of_samples, of_reals):
                    search.add(points, indices, np.full(len(indices), flip))
            bar.update(len(indices))
    real_distances = of_reals.result().distances[:, 0] if dataset.num_images > 1 else np.zeros(0)
    return NeighbourReport(samples, of_samples.result(), real_distances, network.name, dataset.num_images)


def plot_neighbours(report: NeighbourReport, dataset: Dataset, title: str) -> bytes:
    """PNG: one row per sample: the sample, then its nearest training images with their distances."""
    rows, columns = report.found.distances.shape
    suspects = set(report.suspects.tolist())
    with style():
        figure = new_figure(1.35 * (columns + 1) + 0.4, 1.55 * rows + 1.3)
        grid = figure.subplots(rows, columns + 1, squeeze=False)
        for row in range(rows):
            show_image(grid[row, 0], report.samples[row])
            grid[row, 0].set_title("sample, a copy?" if row in suspects else "sample", fontsize=8.5,
                                   color="#b03000" if row in suspects else "black")  # fmt: skip
            reals = dataset.read(report.found.indices[row])
            for column in range(columns):
                mirrored = bool(report.found.mirrored[row, column])
                show_image(grid[row, column + 1], reals[column][..., ::-1] if mirrored else reals[column])
                distance, index = float(report.found.distances[row, column]), report.found.indices[row, column]
                text = f"{format_number(distance)}  (#{index}"
                grid[row, column + 1].set_title(text + (", mirrored)" if mirrored else ")"), fontsize=8.5)
        note = f"distance of {report.feature_network} features, index of the training image"
        if len(report.real_distances):
            low, median = np.percentile(report.real_distances, [1, 50])
            note += (f"\ntraining images and their nearest other one: median {format_number(float(median))}, "
                     f"1st percentile {format_number(float(low))}")  # fmt: skip
        figure.suptitle(f"{title}\n{note}", fontsize=9.5)
        return to_png(figure)


def numbers_of(report: NeighbourReport) -> dict[str, Any]:
    """For the file beside the picture."""
    return {
        "feature_network": report.feature_network,
        "num_real": report.num_real,
        "distances": report.found.distances,
        "indices": report.found.indices,
        "mirrored": report.found.mirrored,
        "real_distances": np.sort(report.real_distances),
        "suspects": report.suspects,
    }
