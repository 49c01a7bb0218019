"""Flooding: a loss that is not allowed to become too good (Ishida et al. 2020, "Do We Need Zero Training Loss?").

The tutorial on anime faces found it to keep large GANs from diverging, and the stopping to be what mattered: a network
that is ahead waits for the other.
"""

from __future__ import annotations

from dnnlib.tflib.tfutil import tf


def flood(loss: tf.Tensor, level: float | None, stops: bool) -> tf.Tensor:
    """The scalar loss with a level that it does not fall below; None: as it is.

    As published its gradient turns round there: |loss - level| + level. With `stops` it vanishes: max(loss, level).
    """
    if level is None:
        return loss
    return tf.maximum(loss, level) if stops else tf.abs(loss - level) + level
