"""How much each resolution contributes to the images of a generator with output skips (paper section 4.2, figure 8).

Such a generator adds up the RGB images of its ToRGB layers. The standard deviations of what they add, normalised to
sum to 1, tell which resolutions it relies on. The paper takes the values that each layer produces, over 1024 samples
of w. Those are `of_layers`; `in_image` takes them as they arrive in the image, after the upsampling filters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnlib.tflib.ops import upsample_2d
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.analysis.samples import Generator, Samples, default_batch
from metrics.report_plots import COLORS, new_figure, style, to_png
from metrics.towers import Stream, on_devices

_TORGB = re.compile(r"/(\d+)x\1/ToRGB/")
_MEASURES = {"layer": "values of the ToRGB layers", "image": "values added to the image"}
_DEFAULT_KERNEL = (1, 3, 3, 1)  # of the builder


@dataclass(frozen=True)
class Contributions:
    """Standard deviations [resolutions] float64 over all pixels, channels and samples.

    resolutions: 4, 8, ...; of_layers: of the values each layer produces; in_image: of these brought to full size.
    """

    resolutions: list[int]
    of_layers: np.ndarray
    in_image: np.ndarray

    def shares(self, measure: str) -> np.ndarray:
        """Shares that sum to 1, by `layer` or `image`."""
        deviations = {"layer": self.of_layers, "image": self.in_image}[measure]
        total = deviations.sum()
        return deviations / total if total > 0 else np.full_like(deviations, np.nan)


def find_torgb(synthesis: Any, dlatents: tf.Tensor, rng: Any = None) -> tuple[tf.Tensor, dict[int, tf.Tensor]]:
    """(images, {resolution: output of its ToRGB layer}) of a synthesis network built anew on dlatents [N, layers, D].

    Tensors are float [N, C, h, w]; h and w are the resolution where images are square. Raises `UserError` if the
    network does not add up its image from all resolutions.
    """
    architecture = synthesis.static_kwargs.get("architecture", "skip")
    if architecture != "skip":
        raise UserError(
            f"this generator has the architecture {architecture!r}, whose image comes from its last layer alone: "
            "contributions of resolutions are defined for 'skip'"
        )
    graph = tf.get_default_graph()
    before = len(graph.get_operations())
    images = synthesis.get_output_for(dlatents, randomize_noise=True, rng=rng)
    found: dict[int, list[tf.Tensor]] = {}
    for op in graph.get_operations()[before:]:
        match = _TORGB.search(op.name)
        if match:
            scope = op.name[: match.end()]
            leaving = [t for t in op.outputs if any(not user.name.startswith(scope) for user in t.consumers())]
            found.setdefault(int(match[1]), []).extend(leaving)
    # Blocks of rectangular networks are called as those of the square network of as many layers.
    resolution = max(found, default=4)
    expected = [2**level for level in range(2, resolution.bit_length())]
    if sorted(found) != expected or any(len(tensors) != 1 for tensors in found.values()):
        raise UserError(
            f"expected one output of a ToRGB layer at each of {expected}, found "
            f"{ {r: len(tensors) for r, tensors in sorted(found.items())} }: this network is built in another way"
        )
    last = found[resolution][0]
    is_nchw = last.shape[1:].as_list() == images.shape[1:].as_list()
    outputs = {r: found[r][0] if is_nchw else tf.transpose(found[r][0], [0, 3, 1, 2]) for r in expected}
    return images, {r: tf.cast(tensor, tf.float32) for r, tensor in outputs.items()}


def bring_to_size(image: tf.Tensor, resolution: int, kernel: Sequence[float]) -> tf.Tensor:
    """What an addend [N, C, r, r] has become in the image [N, C, R, R], by the filter of the generator."""
    for _ in range((resolution // int(image.shape[2])).bit_length() - 1):
        image = upsample_2d(image, k=kernel)
    return image


def measure_contributions(
    Gs: Generator,
    count: int = 1024,
    seed: int = 0,
    batch: int | None = None,  # noqa: N803
    labels: np.ndarray | None = None,
    num_gpus: int = 1,
) -> Contributions:
    """Contributions over `count` samples in the default session; noise is random. Raises `UserError` for other nets.

    labels: as `given` of `Samples`; num_gpus: devices that share the work, which changes no sample.
    """
    synthesis, resolution = Gs.components.synthesis, int(Gs.output_shape[2])
    kernel = synthesis.static_kwargs.get("resample_kernel", _DEFAULT_KERNEL)

    def build() -> tuple[Samples, list[int], tf.Tensor]:
        samples = Samples(Gs, seed, given=labels)
        _, outputs = find_torgb(synthesis, samples.dlatents, samples.rng)
        moments = [_moments(t) for t in outputs.values()]
        moments += [_moments(bring_to_size(t, resolution, kernel)) for t in outputs.values()]
        return samples, list(outputs), tf.stack(moments)

    towers = on_devices(num_gpus, build)
    stream = Stream(towers, batch or default_batch(resolution), progress=False)
    parts = stream(lambda tower, indices: (tower[2], None, tower[0].feed(indices)), count, "samples")
    deviations = _combine(np.concatenate(list(parts), axis=2))
    if not np.isfinite(deviations).all():
        raise UserError("the network adds values that are not finite: the training has diverged")
    resolutions = towers[0][1]
    half = len(resolutions)
    return Contributions(resolutions, deviations[:half], deviations[half:])


def _moments(images: tf.Tensor) -> tf.Tensor:
    """Mean and variance of each image: [2, N]."""
    return tf.stack(tf.nn.moments(images, axes=[1, 2, 3]))


def _combine(moments: np.ndarray) -> np.ndarray:
    """Standard deviation [K] over everything, from means and variances [K, 2, N] of parts of equal size."""
    means, variances = moments[:, 0].astype(np.float64), moments[:, 1].astype(np.float64)
    return np.sqrt(variances.mean(axis=1) + means.var(axis=1))


def plot_contributions(kimgs: Sequence[float], found: Sequence[Contributions], measure: str, title: str) -> bytes:
    """PNG of stacked shares over kimg; a single snapshot gives one column."""
    shares = np.stack([100 * one.shares(measure) for one in found], axis=1)
    resolutions = found[0].resolutions
    x = list(kimgs) if len(kimgs) > 1 else [kimgs[0] - 0.5, kimgs[0] + 0.5]
    shares = shares if len(kimgs) > 1 else np.repeat(shares, 2, axis=1)
    with style():
        figure = new_figure(7.5, 4.2)
        axes = figure.add_subplot()
        colors = [COLORS[index % len(COLORS)] for index in range(len(resolutions))]
        areas = axes.stackplot(x, shares, colors=colors, alpha=0.85, labels=[f"{r}x{r}" for r in resolutions])
        axes.set(xlim=(x[0], x[-1]), ylim=(0, 100), title=title)
        axes.set_xlabel("kimg (thousands of training images shown)")
        axes.set_ylabel(f"share of standard deviation, %\n({_MEASURES[measure]})")
        if len(kimgs) == 1:
            axes.set_xticks([kimgs[0]])
        # In the order of the areas, the highest resolution on top.
        axes.legend(handles=areas[::-1], loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return to_png(figure)
