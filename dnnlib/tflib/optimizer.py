"""Adam over one or several towers, with gradient accumulation and shared state between loss phases.

A network is trained in phases (main loss, lazy regularisation) that share one optimizer state. A phase is built from
one loss per tower; a minibatch is one or several rounds of all towers. Gradients, and any side statistics, are
averaged over all sub-batches (towers x rounds), then applied once, so that the split does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError


@dataclass(frozen=True)
class Tower:
    """One sub-batch of a phase.

    device: where it was built; loss: scalar float32; side: name -> tensor to be averaged over sub-batches along with
    the gradients (e.g. the batch mean of w); stats: name -> scalar for reports.
    """

    device: str | None
    loss: tf.Tensor
    side: Mapping[str, tf.Tensor] = field(default_factory=dict)
    stats: Mapping[str, tf.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """Operations of one phase.

    step: gradients of one round, applied at once. accumulate: gradients of one round, added up. apply: the average of
    what was accumulated since the last apply, applied (both None without accumulation). stats: name -> scalar,
    averaged over the towers of a round. step_norm, apply_norm: L2 norm of the gradient that `step` or `apply` uses.
    """

    name: str
    step: tf.Operation
    accumulate: tf.Operation | None
    apply: tf.Operation | None
    stats: Mapping[str, tf.Tensor]
    step_norm: tf.Tensor
    apply_norm: tf.Tensor | None


class Optimizer:
    """Adam in TensorFlow's form: v -= lr sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon).

    trainables: name -> variable. learning_rate, beta1, beta2: scalars or scalar tensors. All phases share moments and
    the powers of the betas (paper appendix B, lazy regularisation). A step whose gradients are not all finite changes
    nothing and is counted in `skipped`.

    Attributes: state (name -> variable; all that a restart needs), skipped (int64 variable).
    """

    def __init__(
        self,
        name: str,
        trainables: Mapping[str, tf.Variable],
        learning_rate: float | tf.Tensor = 0.001,
        beta1: float | tf.Tensor = 0.9,
        beta2: float | tf.Tensor = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        if not trainables:
            raise UserError(f"optimizer {name!r}: no trainable variables")
        self.name, self.trainables = name, dict(trainables)
        self._lr, self._beta1, self._beta2, self._epsilon = learning_rate, beta1, beta2, epsilon
        self.state: dict[str, tf.Variable] = {}
        with tf.variable_scope(name):
            self._beta1_power = self._variable("beta1_power", np.ones([], np.float32))
            self._beta2_power = self._variable("beta2_power", np.ones([], np.float32))
            self.skipped = self._variable("skipped", np.zeros([], np.int64))
            self._steps = self._variable("steps", np.zeros([], np.int64))
            self._m = {n: self._variable(f"{n}/m", v) for n, v in self.trainables.items()}
            self._v = {n: self._variable(f"{n}/v", v) for n, v in self.trainables.items()}
        self._accumulators: dict[str, tf.Variable] = {}

    def _variable(self, name: str, like: np.ndarray | tf.Variable) -> tf.Variable:
        if isinstance(like, np.ndarray):
            init, shape, dtype = tf.constant_initializer(like), [], tf.as_dtype(like.dtype)
        else:
            init, shape, dtype = tf.initializers.zeros(), like.shape, tf.float32
        var = tf.get_variable(name, shape, dtype, init, trainable=False, use_resource=True)
        self.state[name] = var
        return var

    def phase(
        self,
        name: str,
        towers: Sequence[Tower],
        side_updates: Mapping[str, SideUpdate] | None = None,
        accumulates: bool = True,
    ) -> Phase:
        """Build the operations of one phase; without `accumulates` only `step`, which saves a copy of the gradients.

        side_updates: name of a side tensor -> the variable that its average moves. Raises `UserError` if towers
        disagree on which variables have gradients, naming them, or if a side tensor has no update.
        """
        side_updates = dict(side_updates or {})
        for tower in towers:
            if set(tower.side) != set(side_updates):
                raise UserError(f"phase {name!r}: side tensors {sorted(tower.side)}, updates {sorted(side_updates)}")
        found = [self._gradients(name, tower) for tower in towers]
        self._check_same(name, found)
        # A variable without path to the loss keeps a zero gradient: Adam's moments still decay (published behaviour).
        per_tower = [
            {n: tf.zeros_like(v) if grads[n] is None else grads[n] for n, v in self.trainables.items()}
            for grads in found
        ]
        with tf.name_scope(f"{self.name}_{name}/average/"):
            tensors = {f"grad/{n}": _mean([grads[n] for grads in per_tower]) for n in per_tower[0]}
            tensors |= {f"side/{n}": _mean([t.side[n] for t in towers]) for n in side_updates}
            stats = {n: _mean([t.stats[n] for t in towers]) for n in towers[0].stats}
            loss = _mean([t.loss for t in towers])
        with tf.name_scope(f"{self.name}_{name}/"):
            step, step_norm = self._apply(tensors, side_updates, loss)
            if not accumulates:
                return Phase(name, step, None, None, stats, step_norm, None)
            accumulate, apply, apply_norm = self._accumulation(tensors, side_updates, loss)
        return Phase(name, step, accumulate, apply, stats, step_norm, apply_norm)

    def _gradients(self, name: str, tower: Tower) -> dict[str, tf.Tensor | None]:
        with tf.device(tower.device), tf.name_scope(f"{self.name}_{name}/gradients/"):
            grads = tf.gradients(tower.loss, list(self.trainables.values()))
        return {n: None if g is None else tf.convert_to_tensor(g) for n, g in zip(self.trainables, grads, strict=True)}

    def _check_same(self, name: str, found: Sequence[Mapping[str, tf.Tensor | None]]) -> None:
        for index, grads in enumerate(found[1:], start=1):
            odd = sorted(n for n in self.trainables if (grads[n] is None) != (found[0][n] is None))
            if odd:
                raise UserError(f"phase {name!r}: towers 0 and {index} disagree on gradients of {', '.join(odd)}")

    def _apply(
        self, tensors: Mapping[str, tf.Tensor], side_updates: Mapping[str, SideUpdate], loss: tf.Tensor
    ) -> tuple[tf.Operation, tf.Tensor]:
        grads = {n: tensors[f"grad/{n}"] for n in self.trainables}
        # One pass over each gradient gives its norm and whether everything is finite.
        norm = tf.sqrt(2 * tf.add_n([tf.nn.l2_loss(g) for g in grads.values()]))
        values = [norm, loss] + [tf.reduce_sum(tensors[f"side/{n}"]) for n in side_updates]
        finite = tf.reduce_all(tf.is_finite(tf.stack([tf.cast(v, tf.float32) for v in values])))

        def update() -> tf.Operation:
            b1, b2 = tf.cast(self._beta1, tf.float32), tf.cast(self._beta2, tf.float32)
            b1_power, b2_power = self._beta1_power * b1, self._beta2_power * b2
            lr = tf.cast(self._lr, tf.float32)
            ops = [
                tf.raw_ops.ResourceApplyAdam(
                    var=self.trainables[n].handle,
                    m=self._m[n].handle,
                    v=self._v[n].handle,
                    beta1_power=b1_power,
                    beta2_power=b2_power,
                    lr=lr,
                    beta1=b1,
                    beta2=b2,
                    epsilon=np.float32(self._epsilon),
                    grad=g,
                )
                for n, g in grads.items()
            ]
            ops += [u.variable.assign(u.value(tensors[f"side/{n}"])).op for n, u in side_updates.items()]
            with tf.control_dependencies(ops):
                done = [self._beta1_power.assign(b1_power).op, self._beta2_power.assign(b2_power).op]
                return tf.group(*done, self._steps.assign_add(1).op)

        op = tf.cond(finite, lambda: _one(update()), lambda: _one(self.skipped.assign_add(1).op))
        return op.op, norm

    def _accumulation(
        self, tensors: Mapping[str, tf.Tensor], side_updates: Mapping[str, SideUpdate], loss: tf.Tensor
    ) -> tuple[tf.Operation, tf.Operation, tf.Tensor]:
        # Accumulators are shared by phases: each is emptied before the next one starts.
        sums = {n: self._accumulator(n, t) for n, t in {**tensors, "loss": loss}.items()}
        count = self._accumulator("count", tf.zeros([]))
        add = [sums[n].assign_add(t).op for n, t in {**tensors, "loss": loss}.items()]
        accumulate = tf.group(*add, count.assign_add(1.0).op)
        means = {n: var / tf.maximum(count, 1.0) for n, var in sums.items()}
        op, norm = self._apply({n: means[n] for n in tensors}, side_updates, means["loss"])
        norm = tf.identity(norm)
        with tf.control_dependencies([op, norm]):
            clear = [v.assign(tf.zeros_like(v)).op for v in [*sums.values(), count]]
        return accumulate, tf.group(*clear), norm

    def _accumulator(self, name: str, like: tf.Tensor) -> tf.Variable:
        if name not in self._accumulators:
            with tf.variable_scope(f"{self.name}_sum"):
                self._accumulators[name] = tf.get_variable(
                    name, like.shape, tf.float32, tf.initializers.zeros(), trainable=False, use_resource=True
                )
        return self._accumulators[name]

    def variables(self) -> list[tf.Variable]:
        """Everything that needs initialising: state and accumulators."""
        return [*self.state.values(), *self._accumulators.values()]


@dataclass(frozen=True)
class SideUpdate:
    """A variable that follows an average: v <- mean + (v - mean) * beta."""

    variable: tf.Variable
    beta: float

    def value(self, mean: tf.Tensor) -> tf.Tensor:
        """New value of the variable."""
        return mean + (self.variable - mean) * self.beta


def _mean(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tensors[0] if len(tensors) == 1 else tf.add_n(list(tensors)) * np.float32(1 / len(tensors))


def _one(op: tf.Operation) -> tf.Tensor:
    with tf.control_dependencies([op]):
        return tf.constant(1)
