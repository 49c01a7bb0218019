"""What a run will be, before it starts: its configuration, networks, memory and disk."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dnnlib.submission.disk import format_bytes
from dnnlib.tflib.network import Network
from dnnlib.tflib.ops.impl import requested_impl, set_default_impl
from dnnlib.tflib.tfutil import create_session, num_gpus, tf
from training.config import TrainConfig
from training.config_io import field_types, get_field
from training.config_networks import D_kwargs, G_kwargs
from training.dataset import TFRecordDataset
from training.image_grid import grid_dimensions
from training.schedule import schedule

_FLOAT_BYTES = 4
# Size of a grid file relative to its pixels; flat drawings need less, noise more.
_PICTURE_RATIO = {"png": 0.7, "jpg": 0.25}
# What TensorFlow takes besides variables and activations. With it the estimate is within 12% of the published memory
# of config-f at 1024x1024 (13.3 GB), config-e at 1024x1024 (8.6 GB) and config-f at 256x256 (6.4 GB), 4 images per GPU.
_OVERHEAD_BYTES = {"gpu": int(2.5 * 2**30), "cpu": int(0.75 * 2**30)}
# Operations whose results count, in lower case; elementwise ones are taken as fused with them.
_COUNTED = re.compile("conv2d|upfirdn")


@dataclass(frozen=True)
class NetworkSizes:
    """Numbers (of float32) in G and D. activations: results of convolutions and resampling filters, per image."""

    G_trainable: int
    D_trainable: int
    G_total: int
    D_total: int
    G_activations: int
    D_activations: int


@dataclass(frozen=True)
class DiskPlan:
    """What a run will leave on the disk: (bytes of one file, number of files kept)."""

    snapshots: tuple[int, int]
    states: tuple[int, int]
    images: tuple[int, int]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(size * count for size, count in (self.snapshots, self.states, self.images))

    def __str__(self) -> str:
        parts = []
        for name, (size, count) in (("snapshot", self.snapshots), ("state", self.states), ("grid", self.images)):
            parts.append(f"{count} {name}{'s' if count != 1 else ''} of {format_bytes(size)}")
        return f"{format_bytes(self.total)} ({', '.join(parts)})"


def network_sizes(G: Network, D: Network) -> NetworkSizes:
    """Count variables and activations of built networks."""

    def count(variables: dict[str, tf.Variable]) -> int:
        return sum(int(np.prod(var.shape.as_list())) for var in variables.values())

    return NetworkSizes(
        count(G.trainables), count(D.trainables), count(G.vars), count(D.vars), _activations(G), _activations(D)
    )


def _activations(net: Network) -> int:
    parts = (net, *net.components.values())
    ops = (op for part in parts for op in part.list_ops() if _COUNTED.search(op.type.lower()))
    tensors = (tensor for op in ops for tensor in op.outputs if tensor.dtype.is_floating and tensor.shape.rank)
    shapes = (tensor.shape.as_list() for tensor in tensors)
    # The first dimension alone is open: that of the minibatch.
    return sum(int(np.prod(sides)) for first, *sides in shapes if first is None and None not in sides)


def build_and_measure(config: TrainConfig, shape: tuple[int, int, int], label_size: int) -> NetworkSizes:
    """Build G and D for images of shape (C, H, W) in a graph of their own and count them.

    Raises:
        UserError: the configuration describes no network, e.g. `fmap_explicit` lacks a resolution.
    """
    sizes = dict(num_channels=shape[0], resolution=shape[1], label_size=label_size)
    with _reference_ops(), tf.Graph().as_default(), create_session({"device_count.GPU": 0}):
        # The form with one convolution for the whole minibatch, whose shapes say how they grow with it.
        G = Network("G", func_name="G_main", **sizes, **{**G_kwargs(config.G), "fused_modconv": False})
        D = Network("D", func_name="D_stylegan2", **sizes, **D_kwargs(config.D))
        return network_sizes(G, D)


@contextlib.contextmanager
def _reference_ops() -> Iterator[None]:
    """Counting needs no compiled operations, and must not start to compile them."""
    before = requested_impl()
    set_default_impl("ref")
    try:
        yield
    finally:
        set_default_impl(before)


def estimate_memory(config: TrainConfig, sizes: NetworkSizes, resolution: int) -> tuple[int, int]:
    """Rough bytes per tower for (variables, activations).

    Variables: G, D, Gs, two Adam moments and a gradient per trainable. Activations: those of the larger of G's step
    (G and D) and D's step (D on reals and fakes).
    """
    trainable = sizes.G_trainable + sizes.D_trainable
    variables = 2 * sizes.G_total + sizes.D_total + 3 * trainable
    per_image = max(sizes.G_activations + sizes.D_activations, 2 * sizes.D_activations)
    batch_gpu = schedule(config, 0, resolution).batch_gpu
    return variables * _FLOAT_BYTES, per_image * batch_gpu * _FLOAT_BYTES


def plan_disk(config: TrainConfig, shape: tuple[int, int, int], sizes: NetworkSizes) -> DiskPlan:
    """What a run on images of shape (C, H, W) will write, given what it keeps."""
    plan, channels, height, width = config.snapshots, *shape
    step = schedule(config, 0, height)
    tick_nimg = math.ceil(step.kimg_per_tick * 1000 / step.batch) * step.batch
    ticks = math.ceil(config.schedule.total_kimg * 1000 / tick_nimg)
    snapshots = _times(ticks, plan.network_ticks) + (1 if plan.first_tick else 0)
    if plan.keep_snapshots is not None:
        snapshots = min(snapshots, plan.keep_snapshots + len(config.metrics.names))
    columns, rows = grid_dimensions(plan.grid_size, width, height)
    picture = columns * rows * width * height * channels * _PICTURE_RATIO[plan.image_format]
    networks = 2 * sizes.G_total + sizes.D_total
    good_states = 2 if config.watch.may_roll_back else 0
    moments = 2 * (sizes.G_trainable + sizes.D_trainable)
    return DiskPlan(
        (networks * _FLOAT_BYTES, snapshots),
        ((networks + moments) * _FLOAT_BYTES, min(plan.keep_states, max(ticks, 1)) + good_states),
        (int(picture), _times(ticks, plan.image_ticks) + 2),  # and the reals, and the fakes at the start
    )


def _times(ticks: int, period: int) -> int:
    """How often something happens that is due every `period` ticks (0: never) and at the end."""
    return math.ceil(ticks / period) if period else 1


def describe_config(config: TrainConfig) -> Iterator[str]:
    """One line per field, with the default where it differs."""
    default = TrainConfig()
    for path in field_types():
        value, usual = get_field(config, path), get_field(default, path)
        yield f"  {path:<27} {_show(value)}" + ("" if value == usual else f"    (default {_show(usual)})")


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_show, value)) + "]"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value) or '""'


def describe_run(config: TrainConfig, shape: tuple[int, int, int], label_size: int) -> Iterator[str]:
    """Lines about a run on images of shape (C, H, W): networks, schedule, memory, disk."""
    resolution = shape[1]
    sizes = build_and_measure(config, shape, label_size)
    step = schedule(config, 0, resolution)
    variables, activations = estimate_memory(config, sizes, resolution)
    rule = 0.0002 * resolution**2 / step.batch
    yield f"Images        {resolution}x{resolution}, {shape[0]} channels, {label_size} label components"
    yield f"G parameters  {sizes.G_trainable:,}"
    yield f"D parameters  {sizes.D_trainable:,}"
    yield (
        f"Minibatch     {step.batch} images = {config.num_gpus} tower(s) x {step.rounds} round(s) x "
        f"{step.batch_gpu} images; minibatch-stddev groups of {min(config.D.mbstd_group_size, step.batch_gpu)}"
    )
    yield f"Length        {config.schedule.total_kimg:g} kimg, {step.kimg_per_tick:g} kimg per tick"
    yield (
        f"R1 gamma      {step.r1_gamma:g} (rule of thumb 0.0002 * resolution^2 / minibatch = {rule:g}; "
        "raise it if training diverges)"
    )
    device = "gpu" if config.device != "cpu" and num_gpus() else "cpu"
    overhead = _OVERHEAD_BYTES[device]
    yield (
        f"Memory        about {format_bytes(variables + activations + overhead)} per {device.upper()} tower: "
        f"variables, gradients, Adam {format_bytes(variables)}; activations {format_bytes(activations)} "
        f"(in proportion to --batch-gpu); TensorFlow {format_bytes(overhead)}"
    )
    yield f"Disk          {plan_disk(config, shape, sizes)}"


def describe_minibatch(dataset: TFRecordDataset, batch: int) -> Iterator[str]:
    """Read the first minibatch as training will and say what it is like.

    Raises:
        UserError: a record cannot be read.
    """
    images, labels = dataset.get(np.arange(batch))
    yield f"Data set      {dataset.path}: {dataset.num_images} images"
    yield (
        f"First batch   {images.dtype} {list(images.shape)}, values {images.min()} to {images.max()}, "
        f"mean {images.mean():.1f}; labels {list(labels.shape)}"
    )
