"""Singular values of the Jacobian of the synthesis network, w -> image, at points w (paper figure 17).

Path length regularisation drives them to be equal (appendix C). The matrix has as many columns as w has numbers, and
a row for each value of the image. A column is the derivative along one component of w, taken forward through the
graph by differentiating twice backward: J^T u is linear in u, and its derivative by u along v is J v.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.analysis.samples import Generator, default_batch, draw_dlatents
from metrics.images import all_finite
from metrics.report_plots import COLORS, new_figure, set_log_scale, style, to_png
from metrics.towers import Stream, on_devices

MAX_BYTES = 1 << 30  # of a Jacobian in memory; larger ones are sketched
_FLOOR = 1e-7  # of singular values relative to the largest: what float32 can tell from 0


class JacobianGraph:
    """Columns of the Jacobian of a function.

    function: w [N, D] -> images [N, ...] of static shape, each image from its own w; size: D; num_gpus: devices that
    share the columns. Everything is added to the default graph when this is made.
    """

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor], size: int, num_gpus: int = 1) -> None:
        self.size, self._function = size, function
        self._w = tf.placeholder(tf.float32, [size])
        self._towers = on_devices(num_gpus, self._build)

    def _build(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(directions [n, D] to feed, columns [n, rows], bool: all images are finite, which derivatives may hide)."""
        directions = tf.placeholder(tf.float32, [None, self.size])
        w = tf.tile(self._w[None], [tf.shape(directions)[0], 1])
        images = self._function(w)
        flat = tf.reshape(images, [-1, int(np.prod(images.shape[1:].as_list()))])
        self.num_rows = int(flat.shape[1])
        dummy = tf.zeros_like(flat)
        (backward,) = tf.gradients(flat, w, grad_ys=dummy)
        (forward,) = tf.gradients(backward, dummy, grad_ys=directions)
        if forward is None:
            raise UserError("the image does not depend on w")
        return directions, forward, all_finite(flat)

    def columns(self, w: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Derivatives at w [D] along directions [n, D]: float32 [n, rows]."""
        return np.concatenate(list(self._stream(w, directions, len(directions))))

    def _stream(self, w: np.ndarray, directions: np.ndarray, batch: int) -> Iterator[np.ndarray]:
        def step(tower: Any, indices: np.ndarray) -> tuple[tf.Tensor, tf.Tensor, dict[tf.Tensor, Any]]:
            return tower[1], tower[2], {self._w: w, tower[0]: directions[indices]}

        return Stream(self._towers, batch, progress=False)(step, len(directions), "directions")

    def singular_values(self, w: np.ndarray, batch: int = 16, max_bytes: int = MAX_BYTES) -> np.ndarray:
        """Singular values at w, descending: float64 [min(D, rows)].

        A Jacobian of more than `max_bytes` is sketched: every row is added, with a random sign, to one of fewer rows.
        That keeps lengths up to a relative error of about sqrt(D / rows kept); see `rows_kept`.
        """
        rows = self.rows_kept(max_bytes)
        sketch = None if rows == self.num_rows else _Sketch(self.num_rows, rows)
        matrix = np.empty((self.size, rows), np.float32)
        begin = 0
        for found in self._stream(w, np.eye(self.size, dtype=np.float32), batch):
            matrix[begin : begin + len(found)] = found if sketch is None else [sketch(row) for row in found]
            begin += len(found)
        if not np.isfinite(matrix).all():
            raise UserError("the Jacobian has values that are not finite: the training has diverged")
        # Through the smaller Gram matrix in float64, which loses nothing that float32 columns have to tell.
        gram = _gram(matrix if self.size <= rows else matrix.T)
        return np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[::-1], 0))

    def rows_kept(self, max_bytes: int = MAX_BYTES) -> int:
        """How many rows the matrix has in memory; all, where they fit."""
        return min(self.num_rows, max(max_bytes // (4 * self.size), 4 * self.size))


class _Sketch:
    """Random signs and places (Charikar, Chen and Farach-Colton 2002), the same for all columns."""

    def __init__(self, num_rows: int, rows: int) -> None:
        rng = np.random.default_rng(0)
        self._signs = rng.choice(np.array([-1, 1], np.float32), num_rows)
        self._places, self._rows = rng.integers(0, rows, num_rows), rows

    def __call__(self, column: np.ndarray) -> np.ndarray:
        return np.bincount(self._places, column * self._signs, self._rows).astype(np.float32)


def _gram(matrix: np.ndarray, chunk: int = 1 << 16) -> np.ndarray:
    """matrix . matrix^T in float64, from slices of columns so that no copy of all of it is made."""
    gram = np.zeros((len(matrix), len(matrix)))
    for begin in range(0, matrix.shape[1], chunk):
        part = matrix[:, begin : begin + chunk].astype(np.float64)
        gram += part @ part.T
    return gram


@dataclass(frozen=True)
class Spectrum:
    """Singular values of several points.

    values: float64 [points, D], descending in each row; rows, rows_kept: of the Jacobian, and in memory.
    """

    values: np.ndarray
    rows: int
    rows_kept: int

    @property
    def relative(self) -> np.ndarray:
        """Values over the largest of their point, not below what float32 can tell from 0."""
        largest = np.maximum(self.values[:, :1], np.finfo(np.float64).tiny)
        return np.maximum(self.values / largest, _FLOOR)

    @property
    def mean_log10(self) -> np.ndarray:
        """Mean over points of log10 of relative values [D]."""
        return np.log10(self.relative).mean(axis=0)

    @property
    def std_log10(self) -> np.ndarray:
        """Standard deviation over points of log10 of relative values [D]."""
        return np.log10(self.relative).std(axis=0)


def measure_jacobian(
    Gs: Generator,
    count: int = 8,
    seed: int = 0,
    batch: int | None = None,
    max_bytes: int = MAX_BYTES,  # noqa: N803
    labels: np.ndarray | None = None,
    num_gpus: int = 1,
) -> Spectrum:
    """Spectrum at `count` random w (untruncated; one w for all layers), with the noise stored in the network.

    labels: as `given` of `Samples`; num_gpus: devices that share the work.
    """
    synthesis = Gs.components.synthesis
    num_layers, size = synthesis.input_shape[1:3]
    options = {"num_fp16_res": 0} if synthesis.static_kwargs.get("num_fp16_res") else {}

    def images(w: tf.Tensor) -> tf.Tensor:
        # Not a tile: its gradient transposes integers, and TensorFlow prints an error about oneDNN that is none.
        dlatents = tf.stack([w] * num_layers, axis=1)
        return synthesis.get_output_for(dlatents, randomize_noise=False, **options)

    graph = JacobianGraph(images, size, num_gpus)
    points = draw_dlatents(Gs, count, seed, labels)
    batch = batch or default_batch(int(Gs.output_shape[2]))
    values = np.stack([graph.singular_values(w, batch, max_bytes) for w in points])
    return Spectrum(values, graph.num_rows, graph.rows_kept(max_bytes))


def plot_spectrum(spectrum: Spectrum, title: str) -> bytes:
    """PNG: geometric mean of the sorted singular values, largest = 1, with a band of one standard deviation."""
    mean, std = spectrum.mean_log10, spectrum.std_log10
    x = np.arange(1, len(mean) + 1)
    with style():
        figure = new_figure(7.0, 4.2)
        axes = figure.add_subplot()
        axes.plot(x, 10**mean, color=COLORS[0], lw=1.6)
        axes.fill_between(x, 10 ** (mean - std), 10 ** (mean + std), color=COLORS[0], alpha=0.2, lw=0)
        axes.set(xlim=(1, max(len(mean), 2)), title=title)
        set_log_scale(axes)
        axes.set_xlabel("singular value of the Jacobian of w -> image, sorted")
        axes.set_ylabel("relative to the largest")
        count = len(spectrum.values)
        note = f"mean and standard deviation of logarithms at {count} point{'s' * (count > 1)} w"
        if spectrum.rows_kept < spectrum.rows:
            error = np.sqrt(len(mean) / spectrum.rows_kept)
            note += f"\nJacobian sketched to {spectrum.rows_kept} rows: values to about {100 * error:.0f}%"
        axes.text(0.02, 0.04, note, transform=axes.transAxes, fontsize=8.5, color="#444444")
        return to_png(figure)
