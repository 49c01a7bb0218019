"""Strength of the augmentation while training: variables of the training state, and their adjustment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.optimizer import Phase
from dnnlib.tflib.tfutil import tf
from training.augment.controller import adjust_p, overfitting_rv
from training.config_augment import AugmentConfig

# What is summed up between adjustments: over images, but for the last.
_SUMS = ("signs", "real", "fake", "images", "images_at_limit")
_TAGS = {"signs": "Loss/signs/real", "real": "Loss/scores/real", "fake": "Loss/scores/fake_D"}


class AugmentState:
    """The variable p, and sums of D's scores since p was adjusted last.

    Attributes: variables (name -> variable, part of the training state), p (what the pipeline reads: scalar float32).
    """

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config
        with tf.variable_scope("Augment"):
            self._p = self._variable("p", np.float32(config.initial_p))
            self._sums = self._variable("sums", np.zeros([len(_SUMS)], np.float32))
        self.variables = {"augment_p": self._p, "augment_sums": self._sums}
        # A fixed strength is that of the configuration, also when a run resumes with another one.
        self.p = tf.constant(config.initial_p, tf.float32) if config.mode == "fixed" else self._p
        self._new_p = tf.placeholder(tf.float32, [], name="new_augment_p")
        self._new_sums = tf.placeholder(tf.float32, [len(_SUMS)], name="new_augment_sums")
        self._assign = tf.group(self._p.assign(self._new_p), self._sums.assign(self._new_sums))

    @staticmethod
    def _variable(name: str, value: np.ndarray) -> tf.Variable:
        init = tf.constant_initializer(value)
        return tf.get_variable(name, np.shape(value), tf.float32, init, trainable=False, use_resource=True)

    def record(self, phase: Phase, images: int) -> Phase:
        """The main phase of D with the sums kept up to date; images: reals of one round, over all towers."""
        if not self.config.adaptive:
            return phase
        means = [tf.cast(phase.stats[tag], tf.float32) for tag in _TAGS.values()]
        new = tf.stack([*means, np.float32(1), np.float32(0)]) * np.float32(images)
        # A step that was skipped because something was not finite tells nothing.
        new = tf.where(tf.reduce_all(tf.is_finite(new)), new, tf.zeros_like(new))
        add = self._sums.assign_add(new).op
        accumulate = None if phase.accumulate is None else tf.group(phase.accumulate, add)
        return dataclasses.replace(phase, step=tf.group(phase.step, add), accumulate=accumulate)

    def after_minibatch(self, step: int, score_held_out: Callable[[], float] | None = None) -> dict[str, float]:
        """Adjust p where it is due; returns scalars for reports.

        step: minibatches so far, this one included; score_held_out: mean score of held-out images, for `adarv`.
        """
        if self.config.mode == "noaug":
            return {}
        if not self.config.adaptive:
            return {"Progress/augment": self.config.initial_p}
        if step % self.config.interval:
            return {}
        p, sums = tfutil.run([self._p, self._sums])
        total = dict(zip(_SUMS, sums.astype(np.float64).tolist(), strict=True))
        images = total["images"]
        if not images:
            return {"Progress/augment": float(p)}
        if self.config.mode == "ada":
            measured, tag, told = total["signs"] / images, "Progress/augment_rt", True
        else:
            valid = score_held_out()
            measured = overfitting_rv(total["real"] / images, total["fake"] / images, valid)
            told = total["real"] > total["fake"]  # or its size means nothing, and would spoil the mean of its tick
            tag = "Progress/augment_rv"
        new = adjust_p(float(p), measured, images, self.config.goal, self.config.tune_kimg, self.config.p_max)
        at_limit = self._at_limit(new, total["images_at_limit"], images)
        tfutil.run(self._assign, {self._new_p: new, self._new_sums: [0, 0, 0, 0, at_limit]})
        return {"Progress/augment": new} | ({tag: measured} if told else {})

    def _at_limit(self, p: float, before: float, images: float) -> float:
        """Images for which p has stayed at its limit; says so when they become too many."""
        if np.float32(p) < np.float32(self.config.p_max):
            return 0.0
        now, alarm = before + images, self.config.alarm_kimg * 1000
        if alarm and before < alarm <= now:
            print(
                f"warning: augmentation p has stayed at its limit {self.config.p_max:g} for {alarm / 1000:g} kimg: D "
                "overfits all the same. More or cleaner images, a smaller D, a higher R1 gamma, or --augpipe bgcfnc "
                "may help; augment.p_max raises the limit, but p near 1 leaks augmentations into what G draws",
                flush=True,
            )
        return now


def summary(means: dict[str, Any]) -> str:
    """The part of the progress line about augmentation; empty without it. means: of a tick, by name."""
    names = (("augment", "Progress/augment"), ("r_t", "Progress/augment_rt"), ("r_v", "Progress/augment_rv"))
    return "".join(f"  {label} {means[tag]:.3f}" for label, tag in names if tag in means)
