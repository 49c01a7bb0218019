"""Where w lies: centre and scale of a mapping network's output (appendix D)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from dnnlib.tflib.network import Network


class WStatistics(NamedTuple):
    """mean: float32 [dlatent_size]; std: root of the mean squared distance from it, one number for all components."""

    mean: np.ndarray
    std: float


def measure_w(
    Gs: Network,  # noqa: N803
    label: np.ndarray | None = None,
    num: int = 10000,
    seed: int = 123,
    minibatch: int = 500,
) -> WStatistics:
    """Statistics of w over `num` latents from RandomState(seed), in the first layer.

    label: float32 [label_size] for all of them. Without one, networks with labels get classes drawn uniformly, not
    zeros, which they were never trained on.
    """
    rng = np.random.RandomState(seed)
    latents = rng.randn(num, *Gs.input_shapes[0][1:])
    label_size = Gs.input_shapes[1][1]
    if not label_size:
        labels = None
    elif label is None:
        labels = np.eye(label_size, dtype=np.float32)[rng.randint(label_size, size=num)]
    else:
        labels = np.tile(label, (num, 1))
    w = Gs.components.mapping.run(latents, labels, minibatch_size=minibatch)[:, 0].astype(np.float64)
    mean = w.mean(axis=0)
    return WStatistics(mean.astype(np.float32), float(np.sqrt(np.square(w - mean).sum(axis=1).mean())))
