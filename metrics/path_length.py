"""Perceptual path length (Karras et al., arXiv:1812.04948): how much images change along paths in latent space.

The mean of d(g(t), g(t + eps)) / eps² over pairs of images a small step apart, d the perceptual distance. Paths run
straight in w and along great circles in z. The graph is in path_graph.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metrics.errors import NotFinite
from metrics.inputs import MetricInputs

EPSILON = 1e-4


@dataclass(frozen=True)
class PathSampling:
    """space: "z" or "w"; ends: "end" for steps at t = 0, "full" for t uniform in [0, 1); crop: look at the part of a
    picture where a face is."""

    space: str
    ends: str
    crop: bool


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Points at fraction t [N] of the great circles from a to b [N, L]; float64 [N, L], of length 1.

    Only the directions of a and b matter, as for a mapping network that normalises its input. Opposite or equal
    directions have no unique circle: random latents do not meet them, and equal ones stay where they are.
    """
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a.astype(np.float64), b.astype(np.float64)))
    cosine = np.clip(np.sum(a * b, axis=1, keepdims=True), -1, 1)
    across = b - cosine * a
    length = np.linalg.norm(across, axis=1, keepdims=True)
    across = across / np.where(length > 0, length, 1)
    angle = np.asarray(t, np.float64)[:, None] * np.arccos(cosine)
    return a * np.cos(angle) + across * np.sin(angle)


def kept(distances: np.ndarray) -> np.ndarray:
    """Which of the distances [N] count: bool [N], those from the 1st to the 99th percentile, both rounded outwards to
    a distance that is there."""
    low, high = np.percentile(distances, 1, method="lower"), np.percentile(distances, 99, method="higher")
    return (distances >= low) & (distances <= high)


def path_length(distances: np.ndarray) -> float:
    """Mean of the distances [N] over epsilon² without the outliers. Raises `NotFinite` if one is not finite."""
    distances = np.asarray(distances, np.float64)
    if not np.isfinite(distances).all():
        bad = int(np.flatnonzero(~np.isfinite(distances))[0])
        raise NotFinite(f"the perceptual distance of pair {bad} is not finite: the network that made it is broken")
    return float(distances[kept(distances)].mean())


def compute_path_length(inputs: MetricInputs) -> dict[str, float]:
    """The metrics `ppl_zfull`, `ppl_wfull`, `ppl_zend`, `ppl_wend` and `ppl2_wend`."""
    return {"": path_length(np.concatenate(list(inputs.path_distances())))}
