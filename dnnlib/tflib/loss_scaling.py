"""Dynamic loss scaling, so that small gradients survive float16 (Micikevicius et al. 2018, mixed precision training).

The loss is multiplied by a scale before it is differentiated and the gradients divided by it afterwards. The scale is
a power of two, so that this rounds nothing. It is halved when a gradient overflows (that step is skipped) and doubled
after a number of good steps.
"""

from __future__ import annotations

import numpy as np

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError

MIN_SCALE = 1.0  # an overflow at this scale is no matter of scaling


class LossScaler:
    """The scale of one loss, as variables under `name`.

    init, maximum: powers of two >= 1; growth_steps: consecutive good steps after which the scale is doubled.
    Attributes: value (float32 scalar, one reading for a whole step), state (name -> variable: what a restart needs).
    Raises `UserError` for other numbers.
    """

    def __init__(self, name: str, init: float = 65536.0, growth_steps: int = 2000, maximum: float = 2.0**24) -> None:
        for what, number in (("init", init), ("maximum", maximum)):
            if number < MIN_SCALE or np.frexp(number)[0] != 0.5:
                raise UserError(f"loss scale {name!r}: {what} is {number}, expected a power of two >= 1")
        self._growth_steps, self._maximum = growth_steps, maximum
        with tf.variable_scope(name):
            options = dict(trainable=False, use_resource=True)
            self._scale = tf.get_variable(
                "scale", [], tf.float32, tf.constant_initializer(np.float32(min(init, maximum))), **options
            )
            self._good_steps = tf.get_variable("good_steps", [], tf.int64, tf.initializers.zeros(), **options)
        self.state = {"scale": self._scale, "good_steps": self._good_steps}
        self.value = tf.identity(self._scale.read_value())

    def scale(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate."""
        return loss * self.value

    def unscale(self, gradient: tf.Tensor) -> tf.Tensor:
        """A float32 gradient of the scaled loss as one of the loss itself."""
        return gradient * (1 / self.value)

    def update(self, finite: tf.Tensor) -> tf.Operation:
        """Adjust the scale after a step. finite: bool scalar, computed from the gradients of that step."""
        good = tf.where(finite, self._good_steps + 1, tf.zeros([], tf.int64))
        grow = good >= self._growth_steps
        raised = tf.where(grow, tf.minimum(self.value * 2, np.float32(self._maximum)), self.value)
        scale = tf.where(finite, raised, tf.maximum(self.value / 2, np.float32(MIN_SCALE)))
        good = tf.where(grow, tf.zeros_like(good), good)
        return tf.group(self._scale.assign(scale).op, self._good_steps.assign(good).op)
