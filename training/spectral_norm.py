"""Spectral normalisation of weights (Miyato et al. 2018; StyleGAN2 paper, appendix E).

Every chosen weight tensor is divided by its largest singular value, seen as a matrix [everything else, out]. The value
comes from one power iteration, which goes on from a vector that is stored with the network: variable `<weight>_sn`
[1, out], not trainable, N(0, 1) at first, as the published comparison methods of StyleGAN2-ADA name and shape it. A
forward pass reads the vectors and never writes them, so that any number of passes, towers and resumed runs agree;
`power_iterations` gives the operation that moves them all on, once per minibatch.

The paper found it harmful (table 4): almost without effect in G but for tRGB, since demodulation undoes any scale of a
weight; slightly worse FID in D, much worse in both.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from dnnlib.tflib.network import Network
from dnnlib.tflib.rng import normal_initializer
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training.layer_patterns import check_layers, matches

STATE_SUFFIX = "_sn"
#: What the comparison method of StyleGAN2-ADA normalises, in files with `use_spectral_norm`.
PUBLISHED_LAYERS = "*/Conv0,*/Conv1_down,4x4/Conv"
_WEIGHTS = ("weight", "mod_weight")
_EPSILON = 1e-8  # of squared norms, as the published comparison method has it (spec 4.9)


def one_iteration(w: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(left [1, in], right [1, out]) singular vectors of w [in, out] after one power iteration from u [1, out]."""
    v = _unit(tf.matmul(u, w, transpose_b=True))
    return v, _unit(tf.matmul(v, w))


def _unit(x: tf.Tensor) -> tf.Tensor:
    return x * tf.math.rsqrt(tf.reduce_sum(tf.square(x)) + _EPSILON)


def _matrix(w: tf.Tensor) -> tf.Tensor:
    return tf.reshape(w, [-1, int(w.shape[-1])])


def normalised(w: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """w divided by its largest singular value; the singular vectors count as constants in derivatives."""
    matrix = _matrix(w)
    v, u = (tf.stop_gradient(x) for x in one_iteration(tf.stop_gradient(matrix), u))
    sigma = tf.reduce_sum(tf.matmul(v, matrix) * u)
    return w * (1 / sigma)


@contextlib.contextmanager
def spectral_norm(layers: bool | str, where: str) -> Iterator[None]:
    """Inside, weights of the current variable scope whose names match are normalised at run time.

    layers: see `check_layers`. Raises `UserError` if patterns match no weight.
    """
    patterns = check_layers(layers, where)
    if not patterns:
        yield
        return
    root = tf.get_variable_scope().name
    used: set[str] = set()

    def normalising(getter: Callable[..., Any], name: str, **kwargs: Any) -> Any:
        w = getter(name, **kwargs)
        local = name.removeprefix(root + "/")
        if local.rpartition("/")[2] not in _WEIGHTS or not matches(patterns, local):
            return w
        used.add(local)
        shape = [int(d) for d in w.shape]
        state = {"shape": [1, shape[-1]], "initializer": normal_initializer(), "trainable": False}
        u = getter(name + STATE_SUFFIX, **{**kwargs, **state})
        # Layers multiply by 1 / sqrt(fan_in): the weight they then use has a largest singular value of 1.
        return normalised(tf.convert_to_tensor(w), u) * np.float32(np.sqrt(np.prod(shape[:-1])))

    with tf.variable_scope(tf.get_variable_scope(), custom_getter=normalising, auxiliary_name_scope=False):
        yield
    if not used:
        raise UserError(f"{where}: {layers!r} matches no layer; names are like 4x4/Conv, 8x8/Conv1, 8x8/ToRGB")


def normalises_spectrum(where: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator of a network builder: inside it, weights are normalised as its option `spectral_norm` says, else
    `use_spectral_norm`, which means `PUBLISHED_LAYERS`."""

    def decorate(build: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(build)

        @functools.wraps(build)
        def build_normalised(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            layers = given.get("spectral_norm") or (PUBLISHED_LAYERS if given.get("use_spectral_norm") else False)
            with spectral_norm(layers, where):
                return build(*args, **kwargs)

        return build_normalised

    return decorate


def power_iterations(
    networks: Mapping[str, Network], active: Mapping[str, Mapping[str, bool | tf.Tensor]] | None = None
) -> tf.Operation | None:
    """One operation that moves the stored vectors of all networks on by one iteration; None if there are none.

    active: network -> name of a weight -> whether it moves now (`FreezePlan.active`): vectors of frozen weights stay.
    """
    updates = []
    for key, net in networks.items():
        for name, u in net.vars.items():
            if name.rpartition("/")[2] in {weight + STATE_SUFFIX for weight in _WEIGHTS}:
                weight = name.removesuffix(STATE_SUFFIX)
                moves = (active or {}).get(key, {}).get(weight, True)
                if moves is False:
                    continue
                new = one_iteration(_matrix(tf.convert_to_tensor(net.vars[weight])), u)[1]
                updates.append(u.assign(new if moves is True else tf.where(moves, new, u)).op)
    return tf.group(*updates) if updates else None
