"""Layers from a file whose names are not known, by the order and the shapes of its arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dnnlib.util import UserError
from metrics.layers import Layer, fold_batch_norm
from metrics.weight_files import WeightFile

# What the vectors of a layer are called, by parts of the last part of the name.
_PARTS = {
    "mean": ("mean",),
    "variance": ("var",),
    "beta": ("beta", "bias", "offset"),
    "gamma": ("gamma", "scale"),
}


def layers_in_order(
    file: WeightFile,
    names: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    epsilon: float,
    what: str,
    optional: bool = False,
) -> tuple[dict[str, Layer], WeightFile]:
    """The next layers of a file, and the file without them.

    names, shapes: of the layers in order, kernels [h, w, in, out] or [in, out]; in the file they may be the other way
    round, [out, in, h, w] or [out, in]. Vectors after a kernel are its bias, or its batch norm (mean, variance, beta,
    gamma, recognised by name), each as long as it has outputs. optional: give no layers if there is no array left.
    Raises `UserError` naming the first array that does not fit.
    """
    todo = [(name, value) for name, value in file.tensors.items() if value.ndim and value.dtype.kind == "f"]
    layers: dict[str, Layer] = {}
    turned = False
    for name, shape in zip(names, shapes, strict=True):
        if not todo and optional:
            return {}, file
        if not todo:
            raise UserError(f"{file.place}: a {file.kind} without weights for {name} of {what}, it ends too soon")
        key, value = todo.pop(0)
        # A square matrix stands as its predecessors do.
        if value.shape != shape or len(set(shape)) == 1:
            turned = turned or value.shape != shape
            value = _turn(value) if turned else value
        if value.shape != shape:
            raise UserError(
                f"{file.place}: {key} has shape {list(file.tensors[key].shape)}, expected {list(shape)} or its "
                f"transposed form for {name} of {what} (names in this file are not known: order and shapes must fit)"
            )
        parts: dict[str, np.ndarray] = {}
        while todo and todo[0][1].shape == shape[-1:]:
            part, vector = todo.pop(0)
            parts[_part(part, file.place)] = np.asarray(vector, np.float32)
        kernel = np.ascontiguousarray(value, np.float32)
        if not all(np.isfinite(array).all() for array in (kernel, *parts.values())):
            raise UserError(f"{file.place}: {key}, or a vector that follows it, holds other than finite numbers")
        layers[name] = _layer(kernel, parts, epsilon, f"{file.place}: {key}")
    return layers, file._replace(tensors=dict(todo))


def _turn(value: np.ndarray) -> np.ndarray:
    """[out, in, h, w] to [h, w, in, out], [out, in] to [in, out]."""
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def _part(name: str, place: str) -> str:
    last = name.replace(".", "/").rpartition("/")[2].lower()
    found = [part for part, words in _PARTS.items() if any(word in last for word in words)]
    if len(found) != 1:
        raise UserError(f"{place}: {name} is a vector whose role its name does not tell (mean, var, bias, gamma, ...)")
    return found[0]


def _layer(kernel: np.ndarray, parts: dict[str, np.ndarray], epsilon: float, where: str) -> Layer:
    if not parts.keys() & {"mean", "variance"}:
        if "gamma" in parts:
            raise UserError(f"{where}: followed by a scale without mean and variance")
        return Layer(kernel, parts.get("beta", np.zeros(kernel.shape[-1], np.float32)))
    missing = {"mean", "variance", "beta"} - parts.keys()
    if missing:
        raise UserError(f"{where}: its batch norm has no {', '.join(sorted(missing))}")
    return fold_batch_norm(kernel, parts["mean"], parts["variance"], parts["beta"], parts.get("gamma"), epsilon)
