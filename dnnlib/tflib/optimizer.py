"""Adam over one or several towers, with gradient accumulation and shared state between loss phases.

A network is trained in phases (main loss, lazy regularisation) that share one optimizer state. A phase is built from
one loss per tower; a minibatch is one or several rounds of all towers. Gradients, and any side statistics, are
averaged over all sub-batches (towers x rounds), then applied once, so that the split does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dnnlib.tflib.loss_scaling import LossScaler
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError

# Whether a variable moves: always, never, or as a scalar bool tensor says.
Active = bool | tf.Tensor


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
    averaged over the towers of a round. step_norm, apply_norm: L2 norm of the gradient that `step` or `apply` uses, of
    the variables that move; step_skipped, apply_skipped: 1.0 if it was not finite, so that nothing changed. scaler: of
    the loss, if it is scaled.
    """

    name: str
    step: tf.Operation
    accumulate: tf.Operation | None
    apply: tf.Operation | None
    stats: Mapping[str, tf.Tensor]
    step_norm: tf.Tensor
    apply_norm: tf.Tensor | None
    step_skipped: tf.Tensor
    apply_skipped: tf.Tensor | None
    scaler: LossScaler | None = None


class Optimizer:
    """Adam in TensorFlow's form: v -= lr sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon).

    trainables: name -> variable. learning_rate, beta1, beta2: scalars or scalar tensors. All phases share moments and
    the powers of the betas (paper appendix B, lazy regularisation). A step whose gradients are not all finite changes
    nothing and is counted in `skipped`. active: name -> whether the variable moves (default: it does). One that does
    not move keeps its value, its moments and its powers of the betas to the bit, and starts Adam afresh when it moves
    for the first time. Variables that share a tensor in `active` are updated together.

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
        active: Mapping[str, Active] | None = None,
    ) -> None:
        if not trainables:
            raise UserError(f"optimizer {name!r}: no trainable variables")
        self.name, self.trainables = name, dict(trainables)
        self._lr, self._beta1, self._beta2, self._epsilon = learning_rate, beta1, beta2, epsilon
        self.state: dict[str, tf.Variable] = {}
        self._active = {n: (active or {}).get(n, True) for n in self.trainables}
        self._live = {n: v for n, v in self.trainables.items() if self._active[n] is not False}
        with tf.variable_scope(name):
            # One per variable, because a frozen one does not age.
            self._beta1_power = self._variable("beta1_power", np.ones([len(self.trainables)], np.float32))
            self._beta2_power = self._variable("beta2_power", np.ones([len(self.trainables)], np.float32))
            self.skipped = self._variable("skipped", np.zeros([], np.int64))
            self._steps = self._variable("steps", np.zeros([], np.int64))
            self._m = {n: self._variable(f"{n}/m", v) for n, v in self.trainables.items()}
            self._v = {n: self._variable(f"{n}/v", v) for n, v in self.trainables.items()}
        self._accumulators: dict[str, tf.Variable] = {}

    def _variable(self, name: str, like: np.ndarray | tf.Variable) -> tf.Variable:
        if isinstance(like, np.ndarray):
            init, shape, dtype = tf.constant_initializer(like), like.shape, tf.as_dtype(like.dtype)
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
        scaler: LossScaler | None = None,
    ) -> Phase:
        """Build the operations of one phase; without `accumulates` only `step`, which saves a copy of the gradients.

        side_updates: name of a side tensor -> the variable that its average moves. scaler: scales the loss. Raises
        `UserError` if towers disagree on which variables have gradients, naming them, or a side tensor has no update.
        """
        side_updates = dict(side_updates or {})
        for tower in towers:
            if set(tower.side) != set(side_updates):
                raise UserError(f"phase {name!r}: side tensors {sorted(tower.side)}, updates {sorted(side_updates)}")
        found = [self._gradients(name, tower, scaler) for tower in towers]
        self._check_same(name, found)
        # A variable without path to the loss keeps a zero gradient: Adam's moments still decay (published behaviour).
        per_tower = [
            {n: tf.zeros_like(v) if grads[n] is None else grads[n] for n, v in self._live.items()} for grads in found
        ]
        with tf.name_scope(f"{self.name}_{name}/average/"):
            tensors = {f"grad/{n}": _mean([grads[n] for grads in per_tower]) for n in self._live}
            if scaler is not None:
                tensors = {n: scaler.unscale(g) for n, g in tensors.items()}
            tensors |= {f"side/{n}": _mean([t.side[n] for t in towers]) for n in side_updates}
            stats = {n: _mean([t.stats[n] for t in towers]) for n in towers[0].stats}
            loss = _mean([t.loss for t in towers])
        with tf.name_scope(f"{self.name}_{name}/"):
            step, norm, skipped = self._apply(tensors, side_updates, loss, scaler)
            if not accumulates:
                return Phase(name, step, None, None, stats, norm, None, skipped, None, scaler)
            accumulate, apply, apply_norm, apply_skipped = self._accumulation(tensors, side_updates, loss, scaler)
        return Phase(name, step, accumulate, apply, stats, norm, apply_norm, skipped, apply_skipped, scaler)

    def _gradients(self, name: str, tower: Tower, scaler: LossScaler | None) -> dict[str, tf.Tensor | None]:
        with tf.device(tower.device), tf.name_scope(f"{self.name}_{name}/gradients/"):
            loss = tower.loss if scaler is None else scaler.scale(tower.loss)
            grads = tf.gradients(loss, list(self._live.values())) if self._live else []
        return {n: None if g is None else tf.convert_to_tensor(g) for n, g in zip(self._live, grads, strict=True)}

    def _check_same(self, name: str, found: Sequence[Mapping[str, tf.Tensor | None]]) -> None:
        for index, grads in enumerate(found[1:], start=1):
            odd = sorted(n for n in self._live if (grads[n] is None) != (found[0][n] is None))
            if odd:
                raise UserError(f"phase {name!r}: towers 0 and {index} disagree on gradients of {', '.join(odd)}")

    def _apply(
        self,
        tensors: Mapping[str, tf.Tensor],
        side_updates: Mapping[str, SideUpdate],
        loss: tf.Tensor,
        scaler: LossScaler | None,
    ) -> tuple[tf.Operation, tf.Tensor, tf.Tensor]:
        """(operation, norm of the gradient, 1.0 if the step was skipped)."""
        grads = {n: tensors[f"grad/{n}"] for n in self._live}
        # One pass over each gradient gives its norm and whether everything is finite.
        squares = [self._if_active(n, tf.nn.l2_loss(g)) for n, g in grads.items()]
        norm = tf.sqrt(2 * tf.add_n(squares)) if squares else tf.zeros([])
        values = [norm, loss] + [tf.reduce_sum(tensors[f"side/{n}"]) for n in side_updates]
        finite = tf.reduce_all(tf.is_finite(tf.stack([tf.cast(v, tf.float32) for v in values])))
        b1, b2 = tf.cast(self._beta1, tf.float32), tf.cast(self._beta2, tf.float32)
        powers = self._beta1_power * b1, self._beta2_power * b2
        by_name = dict(zip(self.trainables, zip(*(tf.unstack(p) for p in powers), strict=True), strict=True))
        lr, epsilon = tf.cast(self._lr, tf.float32), tf.constant(self._epsilon, tf.float32)

        def adam(names: Sequence[str]) -> list[tf.Operation]:
            return [
                tf.raw_ops.ResourceApplyAdam(
                    var=self.trainables[n].handle,
                    m=self._m[n].handle,
                    v=self._v[n].handle,
                    beta1_power=by_name[n][0],
                    beta2_power=by_name[n][1],
                    lr=lr,
                    beta1=b1,
                    beta2=b2,
                    epsilon=epsilon,
                    grad=grads[n],
                )
                for n in names
            ]

        def update() -> tf.Operation:
            ops = adam([n for n in self._live if self._active[n] is True])
            ops += [u.variable.assign(u.value(tensors[f"side/{n}"])).op for n, u in side_updates.items()]
            with tf.control_dependencies(ops):
                aged = (self._aged(self._beta1_power, powers[0]), self._aged(self._beta2_power, powers[1]))
                return tf.group(*aged, self._steps.assign_add(1).op)

        ops = [either(finite, update, lambda: self.skipped.assign_add(1).op)]
        for active, names in self._sometimes().values():
            group = tf.logical_and(finite, active)
            ops.append(either(group, lambda names=names: tf.group(*adam(names)), tf.no_op))
        if scaler is not None:
            ops.append(scaler.update(finite))
        return tf.group(*ops), norm, 1 - tf.cast(finite, tf.float32)

    def _sometimes(self) -> dict[int, tuple[tf.Tensor, list[str]]]:
        """Variables that move at times, by the tensor that says when."""
        groups: dict[int, tuple[tf.Tensor, list[str]]] = {}
        for name, active in self._active.items():
            if not isinstance(active, bool):
                groups.setdefault(id(active), (active, []))[1].append(name)
        return groups

    def _if_active(self, name: str, value: tf.Tensor) -> tf.Tensor:
        active = self._active[name]
        return value if active is True else tf.where(active, value, tf.zeros_like(value))

    def _aged(self, powers: tf.Variable, new: tf.Tensor) -> tf.Operation:
        """Assign new powers of a beta, but to variables that do not move."""
        if all(active is True for active in self._active.values()):
            return powers.assign(new).op
        active = tf.stack([tf.convert_to_tensor(active) for active in self._active.values()])
        return powers.assign(tf.where(active, new, powers)).op

    def _accumulation(
        self,
        tensors: Mapping[str, tf.Tensor],
        side_updates: Mapping[str, SideUpdate],
        loss: tf.Tensor,
        scaler: LossScaler | None,
    ) -> tuple[tf.Operation, tf.Operation, tf.Tensor, tf.Tensor]:
        # Accumulators are shared by phases: each is emptied before the next one starts.
        sums = {n: self._accumulator(n, t) for n, t in {**tensors, "loss": loss}.items()}
        count = self._accumulator("count", tf.zeros([]))
        add = [sums[n].assign_add(t).op for n, t in {**tensors, "loss": loss}.items()]
        accumulate = tf.group(*add, count.assign_add(1.0).op)
        means = {n: var / tf.maximum(count, 1.0) for n, var in sums.items()}
        op, norm, skipped = self._apply({n: means[n] for n in tensors}, side_updates, means["loss"], scaler)
        norm, skipped = tf.identity(norm), tf.identity(skipped)
        with tf.control_dependencies([op, norm, skipped]):
            clear = [v.assign(tf.zeros_like(v)).op for v in [*sums.values(), count]]
        return accumulate, tf.group(*clear), norm, skipped

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


def either(
    condition: tf.Tensor, if_true: Callable[[], tf.Operation], if_false: Callable[[], tf.Operation]
) -> tf.Operation:
    """An operation that runs what one of the two functions builds, as the scalar bool tensor says.

    Like `tf.cond`, which sends every tensor and variable used inside through a switch of its own, several for each
    variable that is trained; here one switch holds all back. What is inside may run only after all tensors that it
    takes from outside are there, so those are evaluated in either case.
    """
    no, yes = tf.raw_ops.Switch(data=condition, pred=condition)
    ends = []
    for switched, build in ((yes, if_true), (no, if_false)):
        with tf.control_dependencies([tf.identity(switched)]):
            op = build()
        with tf.control_dependencies([op]):
            ends.append(tf.constant(1))
    return tf.raw_ops.Merge(inputs=ends).output.op
