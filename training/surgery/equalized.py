"""Equalised learning rate as surgery sees it (paper appendix B), and linear maps through leaky ReLUs.

A stored weight is divided by sqrt(fan_in) when it is used, so a layer that gets more inputs keeps its function only if
what is stored grows by the root of their ratio.
"""

from __future__ import annotations

import math

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.surgery.states import option

# y = GAIN * lrelu(x): lrelu(x) - lrelu(-x) = (1 + SLOPE) x, which is how linear maps pass through it.
SLOPE = 0.2
GAIN = math.sqrt(2)
PAIR = GAIN * (1 + SLOPE)


def fan_in(weight: np.ndarray) -> int:
    """Product of all dimensions but the last."""
    return int(np.prod(weight.shape[:-1]))


def effective(weight: np.ndarray) -> np.ndarray:
    """The weight as the network uses it, float64 (learning rate multiplier 1)."""
    return weight.astype(np.float64) / math.sqrt(fan_in(weight))


def stored(weight: np.ndarray) -> np.ndarray:
    """What to store, float32, so that the network uses `weight`."""
    return (weight * math.sqrt(fan_in(weight))).astype(np.float32)


def require_lrelu(state: NetworkState, path: str, command: str) -> None:
    """Raises `UserError` unless the activation is the leaky ReLU, which `command` inverts."""
    found = option(state, "nonlinearity", "lrelu")
    if found != "lrelu":
        raise UserError(f"{path}: {command} keeps the function of networks with nonlinearity lrelu only, found {found}")
