"""The mean of w, towards which truncation moves: computed anew from the mapping network, of all labels or of one.

Training keeps a running mean that starts at zero, and converters of other programs lose it.
"""

from __future__ import annotations

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.surgery.report import Report, compare
from training.surgery.states import Model, flat_variables, is_generator, with_variables

SAMPLES, SEED = 10_000, 123  # as projection has them (spec 9)
_MINIBATCH = 1000


def recompute_mean_w(
    model: Model, samples: int = SAMPLES, seed: int = SEED, label: int | None = None
) -> tuple[Model, Report]:
    """The model whose generators have the mean of w of `samples` latents in `dlatent_avg`.

    Args:
        label: draw one class alone, whose centre truncation then moves to; None: all classes equally often.
    Raises:
        UserError: no generator, no such class, or a mapping network that cannot be built.
    """
    model.generator()

    def change(name: str, state: NetworkState) -> NetworkState:
        if not is_generator(state):
            return state
        mean = _mean_w(state, samples, seed, label, model.path)
        return with_variables(state, {**flat_variables(state), "dlatent_avg": mean})

    result = model.map(change)
    report = compare(model, result)
    of = "" if label is None else f" of label {label}"
    report.notes.append(f"dlatent_avg: mean of w of {samples} latents{of}, drawn from seed {seed}")
    return result, report


def _mean_w(state: NetworkState, samples: int, seed: int, label: int | None, path: str) -> np.ndarray:
    """[dlatent_size] float32. Classes take turns, so that each has its share of any number of samples."""
    from dnnlib.tflib import pickles, tfutil  # here, because other commands do without TensorFlow
    from dnnlib.tflib.tfutil import tf

    rng = np.random.RandomState(seed)
    with tf.Graph().as_default(), tfutil.create_session():
        mapping = pickles.build(state["components"]["mapping"])
        (_, size), (_, classes) = mapping.input_shapes
        if label is not None and not 0 <= label < classes:
            known = f"expected 0 to {classes - 1}" if classes else "it has no labels"
            raise UserError(f"{path}: label {label} of {state['name']}: {known}")
        latents = rng.randn(samples, size)
        labels = None
        if classes:
            labels = np.eye(classes)[np.arange(samples) % classes if label is None else np.full(samples, label)]
        w = mapping.run(latents, labels, minibatch_size=_MINIBATCH)
    w = w[:, 0] if w.ndim == 3 else w  # all layers are alike
    return w.mean(axis=0, dtype=np.float64).astype(np.float32)
