"""Evaluating a network on numpy arrays, in minibatches, on one or several devices."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError

if TYPE_CHECKING:
    from dnnlib.tflib.network import Network


def run(
    net: Network,
    in_arrays: Sequence[Any],
    input_transform: dict[str, Any] | None = None,
    output_transform: dict[str, Any] | None = None,
    return_as_list: bool = False,
    print_progress: bool = False,
    minibatch_size: int | None = None,
    num_gpus: int = 1,
    assume_frozen: bool = False,
    **dynamic_kwargs: Any,
) -> Any:
    """Evaluate `net` on arrays whose first dimension is the number of samples.

    in_arrays: one array per input, None for zeros (e.g. no labels). input_transform, output_transform: a dictionary
    with `func` and keyword arguments; the function maps the network's tensors (all of them as positional arguments)
    to other tensors, in the graph. minibatch_size: samples per evaluation (None: all at once). num_gpus: towers that
    share each evaluation. dynamic_kwargs: options of the builder, e.g. `truncation_psi=0.7`. Returns an array, or a
    tuple (list with `return_as_list`) of arrays. Graphs are built once per set of options. Options that only a sibling
    network reads are passed over with a warning.
    """
    del assume_frozen  # Variables are never frozen here; the name is accepted for existing scripts.
    arrays, num_items = _check_inputs(net, in_arrays)
    for key in sorted(net._builder.tolerated & dynamic_kwargs.keys()):
        warnings.warn(f"network {net.name!r} does not read {key}: it changes nothing here", stacklevel=3)
    fetches, feeds = _graph_for(net, input_transform, output_transform, num_gpus, dynamic_kwargs)
    step = num_items if minibatch_size is None else minibatch_size
    if step < 1 or num_gpus < 1:
        raise UserError(f"run: expected minibatch_size >= 1 and num_gpus >= 1, found {step} and {num_gpus}")
    parts: list[list[np.ndarray]] = []
    with fetches[0].graph.as_default():
        session = tfutil.init_tf()
    for begin in tqdm(range(0, num_items, step), disable=not print_progress, desc=net.name, file=sys.stderr):
        end = min(begin + step, num_items)
        feed = {ph: a[begin:end] for ph, a in zip(feeds, arrays, strict=True)}
        try:
            parts.append(session.run(fetches, feed))
        except tf.errors.InvalidArgumentError as err:
            asserted = re.search(r"assertion failed: (.*)", err.message)
            if asserted is None:
                raise
            parts_of_text = re.findall(r"\[(.*?)\]", asserted[1])  # what a builder says of its inputs
            raise UserError(f"network {net.name!r}: {' '.join(parts_of_text)}") from None
    outputs = [np.concatenate(chunks) if len(chunks) > 1 else chunks[0] for chunks in zip(*parts, strict=True)]
    if return_as_list:
        return outputs
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _check_inputs(net: Network, in_arrays: Sequence[Any]) -> tuple[list[np.ndarray], int]:
    if len(in_arrays) != net.num_inputs:
        raise UserError(f"network {net.name!r}: expected {net.num_inputs} inputs, found {len(in_arrays)}")
    counts = {len(a) for a in in_arrays if a is not None}
    if len(counts) != 1:
        raise UserError(f"network {net.name!r}: inputs have {sorted(counts) or 'no'} samples, expected one number")
    num_items = counts.pop()
    if num_items == 0:
        raise UserError(f"network {net.name!r}: inputs hold no samples")
    arrays = []
    for array, shape, name in zip(in_arrays, net.input_shapes, net.input_names, strict=True):
        full = [num_items, *shape[1:]]
        value = np.zeros(full, np.float32) if array is None else np.asarray(array)
        fits = value.ndim == len(full) and all(b is None or a == b for a, b in zip(value.shape, full, strict=True))
        if not fits:
            raise UserError(f"network {net.name!r}: input {name} has shape {list(value.shape)}, expected {full}")
        arrays.append(value)
    return arrays, num_items


def _freeze(value: Any) -> Any:
    """A hashable stand-in for an option, so that equal options find the same graph."""
    if isinstance(value, dict):
        return tuple(sorted((k, _freeze(v)) for k, v in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(v) for v in value)
    if isinstance(value, np.ndarray):
        return (value.shape, value.tobytes())
    return value if getattr(value, "__hash__", None) else id(value)


def _graph_for(
    net: Network,
    input_transform: dict[str, Any] | None,
    output_transform: dict[str, Any] | None,
    num_gpus: int,
    dynamic_kwargs: dict[str, Any],
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    key = _freeze([input_transform or {}, output_transform or {}, num_gpus, dynamic_kwargs])
    if key in net._run_cache:
        return net._run_cache[key]
    graph = net.input_templates[0].graph
    with graph.as_default(), tf.name_scope(f"{net.scope}_run/"), tf.control_dependencies(None):
        feeds = [tf.placeholder(tf.float32, [None, *shape[1:]]) for shape in net.input_shapes]
        splits = _split(feeds, num_gpus)
        towers = []
        for index, inputs in enumerate(splits):
            with tf.device(tfutil.tower_device(index) if num_gpus > 1 else None):
                inputs = _transform(inputs, input_transform)
                outputs = net.get_output_for(*inputs, return_as_list=True, **dynamic_kwargs)
                towers.append(_transform(outputs, output_transform))
        fetches = [tf.concat(parts, axis=0) if len(parts) > 1 else parts[0] for parts in zip(*towers, strict=True)]
    net._run_cache[key] = fetches, feeds
    return fetches, feeds


def _transform(tensors: Sequence[tf.Tensor], transform: dict[str, Any] | None) -> list[tf.Tensor]:
    if transform is None:
        return list(tensors)
    options = dict(transform)
    func = options.pop("func", None)
    if not callable(func):
        raise UserError("run: a transform is a dictionary with a function under 'func'")
    out = func(*tensors, **options)
    return list(out) if isinstance(out, (list, tuple)) else [out]


def _split(feeds: Sequence[tf.Tensor], num_gpus: int) -> list[list[tf.Tensor]]:
    """Split along the first dimension as evenly as possible; towers may get nothing when samples are few."""
    if num_gpus == 1:
        return [list(feeds)]
    total = tf.shape(feeds[0])[0]
    edges = [total * index // num_gpus for index in range(num_gpus + 1)]
    return [[x[edges[i] : edges[i + 1]] for x in feeds] for i in range(num_gpus)]
