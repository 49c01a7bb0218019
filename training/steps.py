"""The graph of one training iteration, and how a minibatch runs through it.

Order (spec 4.3): G main, G regularisation every k minibatches, Gs average, D main, D regularisation every k. With
`schedule.D_repeats` G has its turn only at every so manieth minibatch, and its interval counts these. A
minibatch is cut into sub-batches of `batch_gpu` images; sub-batch number i of a minibatch draws the same random
numbers and sees the same reals whichever tower runs it in whichever round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.loss_scaling import LossScaler
from dnnlib.tflib.network import Network
from dnnlib.tflib.optimizer import Optimizer, Phase, SideUpdate, Tower
from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import tf
from training.augment.held_out import HeldOutScore
from training.augment.pipeline import make_augment, make_zoom
from training.augment.state import AugmentState
from training.config import TrainConfig
from training.consistency import Consistency
from training.freeze import freeze_plans
from training.loss import LossBuilder, LossTerms, process_reals
from training.schedule import has_r1
from training.spectral_norm import power_iterations

# Sub-batches of one minibatch get consecutive seeds in the space above its image counter.
_MAX_SUB_BATCHES = 1 << 20


@dataclass(frozen=True)
class _TowerInputs:
    """Placeholders of one tower: uint8 reals, their labels, random labels for the fakes of G."""

    reals: tf.Tensor
    labels: tf.Tensor
    g_labels: tf.Tensor


@dataclass(frozen=True)
class MinibatchSettings:
    """What may change between minibatches: learning rates (already corrected for lazy regularisation), weights.

    mixing: probability of style mixing; None: that of the configuration.
    """

    G_lrate: float
    D_lrate: float
    r1_gamma: float
    ema_beta: float
    rounds: int
    mixing: float | None = None


class TrainingGraph:
    """Networks, losses, optimizers and their operations.

    G, D, Gs: networks; config: the run; batch_gpu: images per tower and round; rounds: rounds per minibatch (more
    than one needs accumulators). G_betas, D_betas: (beta1, beta2) after the lazy correction.
    Attributes: phases (name -> Phase), variables (name -> variable: the training state besides the networks).
    """

    def __init__(
        self,
        G: Network,
        D: Network,
        Gs: Network,
        config: TrainConfig,
        batch_gpu: int,
        accumulates: bool,
        G_betas: tuple[float, float],
        D_betas: tuple[float, float],
    ) -> None:
        self.G, self.D, self.Gs, self.config, self.batch_gpu = G, D, Gs, config, batch_gpu
        self.num_towers = config.num_gpus
        self._label_size = G.input_shapes[1][1]
        with tf.name_scope("TrainInputs"):
            self._seed = tf.placeholder(tf.int64, [2], name="seed")
            self._g_lrate = tf.placeholder(tf.float32, [], name="G_lrate")
            self._d_lrate = tf.placeholder(tf.float32, [], name="D_lrate")
            self._r1_gamma = tf.placeholder(tf.float32, [], name="r1_gamma")
            self._ema_beta = tf.placeholder(tf.float32, [], name="ema_beta")
            mixes = config.G.style_mixing_prob or config.schedule.mixing_steps
            self._mixing = tf.placeholder(tf.float32, [], name="style_mixing_prob") if mixes else None
            self.freezing = freeze_plans(config.freeze, {"G": G.trainables, "D": D.trainables})
            self._inputs = [self._tower_inputs() for _ in range(self.num_towers)]
        self.pl_mean = tf.get_variable(
            "pl_mean", [], initializer=tf.initializers.zeros(), trainable=False, use_resource=True
        )
        active = {name: plan.active for name, plan in self.freezing.items()}
        self.G_opt = Optimizer("TrainG", G.trainables, self._g_lrate, *G_betas, config.opt.epsilon, active["G"])
        self.D_opt = Optimizer("TrainD", D.trainables, self._d_lrate, *D_betas, config.opt.epsilon, active["D"])
        self._accumulates = accumulates
        self.scalers: dict[str, LossScaler] = {}
        self.augment = AugmentState(config.augment)
        self.phases = self._build_phases()
        self.held_out = self._build_held_out()
        with tf.device(tfutil.tower_device(0)):
            ema = Gs.setup_as_moving_average_of(G, beta=self._ema_beta)
            with tf.control_dependencies([ema]):
                iterations = power_iterations({"G": G, "D": D}, active)
            self._ema = ema if iterations is None else tf.group(ema, iterations)
        self.variables = {
            "pl_mean": self.pl_mean,
            **self.augment.variables,
            **{f"TrainG/{n}": v for n, v in self.G_opt.state.items()},
            **{f"TrainD/{n}": v for n, v in self.D_opt.state.items()},
            **{f"loss_scale/{phase}/{n}": v for phase, s in self.scalers.items() for n, v in s.state.items()},
        }
        sums = [*self.G_opt.variables(), *self.D_opt.variables()]
        tfutil.init_vars([*self.variables.values(), *sums])

    def _tower_inputs(self) -> _TowerInputs:
        n, shape = self.batch_gpu, self.G.output_shape[1:]
        if not self._label_size:
            none = tf.zeros([n, 0])
            return _TowerInputs(tf.placeholder(tf.uint8, [n, *shape], name="reals"), none, none)
        return _TowerInputs(
            tf.placeholder(tf.uint8, [n, *shape], name="reals"),
            tf.placeholder(tf.float32, [n, self._label_size], name="labels"),
            tf.placeholder(tf.float32, [n, self._label_size], name="G_labels"),
        )

    def _build_phases(self) -> dict[str, Phase]:
        loss, opt_g, opt_d = self.config.loss, self.G_opt, self.D_opt
        losses = LossBuilder(
            self.G,
            self.D,
            self.pl_mean,
            loss.pl_weight,
            loss.pl_decay,
            self._r1_gamma,
            G_options=self._network_options("G"),
            D_options=self._network_options("D"),
            augment=make_augment(self.config.augment, self.augment.p),
            zoom=make_zoom(self.config.augment),
            G_loss=loss.G_loss,
            D_loss=loss.D_loss,
            D_penalty=loss.D_penalty,
            top_k=loss.top_k,
            G_flood=loss.G_flood,
            D_flood=loss.D_flood,
            flood_stops=loss.flood_stops,
            consistency=Consistency.of(loss),
        )
        n, pl_n = self.batch_gpu, max(self.batch_gpu // loss.pl_minibatch_shrink, 1)
        use_pl, use_r1 = bool(loss.pl_weight), has_r1(self.config)
        g_lazy, d_lazy = loss.G_reg_interval or 1, loss.D_reg_interval or 1

        def g_main(x: _TowerInputs, rng: StatelessRandom) -> LossTerms:
            terms = losses.g_main(n, x.g_labels, rng.child("G_main"))
            return terms if loss.G_reg_interval or not use_pl else _add(terms, g_reg(x, rng))

        def g_reg(x: _TowerInputs, rng: StatelessRandom) -> LossTerms:
            return _scale(losses.g_reg(pl_n, x.g_labels[:pl_n], rng.child("G_reg")), g_lazy)

        def d_main(x: _TowerInputs, rng: StatelessRandom) -> LossTerms:
            terms = losses.d_main(process_reals(x.reals), x.labels, rng.child("D_main"))
            return terms if loss.D_reg_interval or not use_r1 else _add(terms, d_reg(x, rng))

        def d_reg(x: _TowerInputs, rng: StatelessRandom) -> LossTerms:
            return _scale(losses.d_reg(process_reals(x.reals), x.labels, rng.child("D_reg")), d_lazy)

        phases = {"G_main": self._phase("G_main", opt_g, g_main)}
        if use_pl and loss.G_reg_interval:
            phases["G_reg"] = self._phase("G_reg", opt_g, g_reg)
        phases["D_main"] = self.augment.record(self._phase("D_main", opt_d, d_main), n * self.num_towers)
        if use_r1 and loss.D_reg_interval:
            phases["D_reg"] = self._phase("D_reg", opt_d, d_reg)
        return phases

    def _network_options(self, name: str) -> dict[str, Any]:
        """Options of G or D that hold in training only: precision, and style mixing as it is at the time."""
        precision, options = self.config.precision, {}
        if precision.dtype != "auto":
            options["fp16_dtype"] = precision.dtype
        if getattr(precision, f"{name}_4x4"):
            options["fp16_4x4"] = True
        if name == "G" and self._mixing is not None:
            options["style_mixing_prob"] = self._mixing
        return options

    def _scaler(self, phase: str) -> LossScaler | None:
        """The loss scale of a phase, if it has one: some network behind the loss runs in low precision."""
        config, precision = self.config, self.config.precision
        low = {"G": config.G.num_fp16_res > 0, "D": config.D.num_fp16_res > 0}
        behind = {"G_main": "GD", "G_reg": "G"}.get(phase, "D")
        if phase not in precision.loss_scaling or not any(low[net] for net in behind):
            return None
        scaler = LossScaler(
            f"loss_scale/{phase}", precision.scale_init, precision.scale_growth_steps, precision.scale_max
        )
        self.scalers[phase] = scaler
        return scaler

    def _build_held_out(self) -> HeldOutScore | None:
        """Scoring of held-out images, where the augmentation follows it."""
        if self.config.augment.mode != "adarv":
            return None
        augment = make_augment(self.config.augment, self.augment.p)
        with tf.name_scope("held_out"), tf.device(tfutil.tower_device(0)):
            return HeldOutScore(
                self.D, augment, self._seed, self.batch_gpu, self.config.seed, self._network_options("D")
            )

    def _phase(
        self, name: str, optimizer: Optimizer, build: Callable[[_TowerInputs, StatelessRandom], LossTerms]
    ) -> Phase:
        towers = []
        for index, inputs in enumerate(self._inputs):
            device = tfutil.tower_device(index)
            with tf.name_scope(f"{name}_tower{index}"), tf.device(device):
                rng = StatelessRandom(self._seed + tf.constant([0, index], tf.int64))
                terms = build(inputs, rng)
            towers.append(Tower(device, terms.loss, terms.side, terms.stats))
        known = {
            "w_avg": lambda: SideUpdate(self.G.own_vars["dlatent_avg"], self.config.G.dlatent_avg_beta),
            "pl_mean": lambda: SideUpdate(self.pl_mean, 1 - self.config.loss.pl_decay),
        }
        updates = {key: known[key]() for key in towers[0].side}
        with tf.device(tfutil.tower_device(0)):
            return optimizer.phase(name, towers, updates, self._accumulates, self._scaler(name))

    def run_minibatch(
        self,
        nimg: int,
        step: int,
        settings: MinibatchSettings,
        reals: np.ndarray,
        labels: np.ndarray,
        g_labels: Mapping[str, np.ndarray],
    ) -> dict[str, float]:
        """Train on one minibatch; returns scalars for reports.

        nimg: images shown before this minibatch; step: minibatches before it. reals: uint8 [batch, C, H, W], labels
        [batch, label_size]; g_labels: random labels of that shape for phase `G_main` and `G_reg`.
        """
        loss, repeats, stats = self.config.loss, self.config.schedule.D_repeats, {}
        turn_of_g = step % repeats == 0
        run = {
            "G_main": turn_of_g,
            "G_reg": "G_reg" in self.phases and turn_of_g and step // repeats % loss.G_reg_interval == 0,
            "ema": True,
            "D_main": True,
            "D_reg": "D_reg" in self.phases and step % loss.D_reg_interval == 0,
        }
        for name, due in run.items():
            if not due:
                continue
            stats |= self.run_phase(name, nimg, settings, reals, labels, g_labels.get(name, labels))
        score = None if self.held_out is None else lambda: self.held_out(nimg, len(reals))
        return stats | self.augment.after_minibatch(step + 1, score)

    def run_phase(
        self,
        name: str,
        nimg: int,
        settings: MinibatchSettings,
        reals: np.ndarray,
        labels: np.ndarray,
        g_labels: np.ndarray,
    ) -> dict[str, float]:
        """One phase of a minibatch, or the update of Gs (`ema`); returns scalars for reports."""
        moving: dict[Any, Any] = {}
        for plan in self.freezing.values():
            moving |= plan.feeds(nimg / 1000)
        if name == "ema":
            tfutil.run(self._ema, {self._ema_beta: settings.ema_beta, **moving})
            return {}
        phase = self.phases[name]
        base = {self._g_lrate: settings.G_lrate, self._d_lrate: settings.D_lrate, self._r1_gamma: settings.r1_gamma}
        base |= moving
        if self._mixing is not None:
            prob = self.config.G.style_mixing_prob or 0.0
            base[self._mixing] = prob if settings.mixing is None else settings.mixing
        feeds = self._feeds(nimg, reals, labels, g_labels, settings.rounds)
        tags = {f"Gradients/{name}": (phase.step_norm, phase.apply_norm)}
        tags[f"Skipped/{name}"] = (phase.step_skipped, phase.apply_skipped)
        if phase.scaler is not None:
            tags[f"LossScale/{name}"] = (phase.scaler.value, phase.scaler.value)
        if settings.rounds == 1:
            reports = {tag: tensor for tag, (tensor, _) in tags.items()}
            _, stats, values = tfutil.run([phase.step, phase.stats, reports], {**base, **next(feeds)})
            return {**stats, **_of_good_step(name, values)}
        total: dict[str, float] = {}
        for feed in feeds:
            _, values = tfutil.run([phase.accumulate, phase.stats], {**base, **feed})
            for key, value in values.items():
                total[key] = total.get(key, 0.0) + float(value) / settings.rounds
        _, values = tfutil.run([phase.apply, {tag: tensor for tag, (_, tensor) in tags.items()}], base)
        return {**total, **_of_good_step(name, values)}

    def _feeds(
        self, nimg: int, reals: np.ndarray, labels: np.ndarray, g_labels: np.ndarray, rounds: int
    ) -> Iterator[dict[Any, Any]]:
        n = self.batch_gpu
        for index in range(rounds):
            first = index * self.num_towers
            feed: dict[Any, Any] = {self._seed: np.array([self.config.seed, nimg * _MAX_SUB_BATCHES + first], np.int64)}
            for tower, inputs in enumerate(self._inputs):
                part = slice((first + tower) * n, (first + tower + 1) * n)
                feed[inputs.reals] = reals[part]
                if self._label_size:
                    feed[inputs.labels] = labels[part]
                    feed[inputs.g_labels] = g_labels[part]
            yield feed


def _of_good_step(phase: str, values: dict[str, float]) -> dict[str, float]:
    """Reports without the norm of a step that was skipped: one infinity would hide those of all others in its tick."""
    return {tag: v for tag, v in values.items() if tag != f"Gradients/{phase}" or not values[f"Skipped/{phase}"]}


def _scale(terms: LossTerms, factor: float) -> LossTerms:
    return LossTerms(terms.loss * factor, terms.side, terms.stats)


def _add(a: LossTerms, b: LossTerms) -> LossTerms:
    """Sum of two losses; the running mean of w is taken from the first."""
    return LossTerms(a.loss + b.loss, {**b.side, **a.side}, {**a.stats, **b.stats})
