"""Scores of held-out images: what the heuristic r_v compares with those of training images (ADA paper, equation 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training.dataset import TFRecordDataset
from training.loss import process_reals


def open_held_out(dataset: TFRecordDataset) -> TFRecordDataset:
    """The held-out images of a data set. Raises `UserError` if it has none, or others than it trains on."""
    try:
        held_out = TFRecordDataset(
            dataset.path, resolution=dataset.resolution, mirror_augment=dataset.mirror_augment, seed=dataset.seed,
            max_label_size=dataset.label_size, validation=True,
        )  # fmt: skip
    except UserError as err:
        raise UserError(
            f"augment.mode=adarv needs held-out images: {err}; dataset_tool.py holds some back with --validation N"
        ) from err
    if held_out.shape != dataset.shape:
        raise UserError(f"{dataset.path}: held-out images of shape {held_out.shape}, the others have {dataset.shape}")
    return held_out


class HeldOutScore:
    """Mean score of D for augmented held-out images, computed in sub-batches as in training.

    D: network; augment: as for the reals; seed: placeholder int64 [2]; batch_gpu: images per sub-batch; D_options: of
    D in training, such as its precision.
    Attributes: images, where they come from, to be set before the first call.
    """

    def __init__(
        self,
        D: Network,  # noqa: N803
        augment: Callable[[tf.Tensor, Any], tf.Tensor] | None,
        seed: tf.Tensor,
        batch_gpu: int,
        run_seed: int,
        D_options: Mapping[str, Any],  # noqa: N803
    ) -> None:
        self.images: TFRecordDataset | None = None
        self._seed, self._batch_gpu, self._run_seed = seed, batch_gpu, run_seed
        shape, label_size = D.input_shape[1:], D.input_shapes[1][1]
        self._images = tf.placeholder(tf.uint8, [batch_gpu, *shape], name="images")
        self._labels = tf.placeholder(tf.float32, [batch_gpu, label_size], name="labels")
        x = process_reals(self._images)
        if augment is not None:
            x = augment(x, StatelessRandom(seed).child("held_out/augment"))
        self._score = tf.reduce_mean(D.get_output_for(x, self._labels, **D_options))

    def __call__(self, nimg: int, count: int) -> float:
        """Mean score of `count` images; which, and how they are augmented, depends on `nimg` alone."""
        n = self._batch_gpu
        scores = []
        for first in range(0, count, n):
            images, labels = self.images.get(np.arange(nimg + first, nimg + first + n))
            seed = np.array([self._run_seed, nimg + first], np.int64)
            scores.append(tfutil.run(self._score, {self._seed: seed, self._images: images, self._labels: labels}))
        return float(np.mean(scores))
