"""What a run will be, before it starts: its configuration, networks, memory and disk."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dnnlib.submission.disk import format_bytes
from dnnlib.tflib.network import Network
from dnnlib.tflib.ops.build import is_built
from dnnlib.tflib.ops.impl import requested_impl, set_default_impl
from dnnlib.tflib.tfutil import tf
from training.asymmetry import asymmetry_warnings
from training.config import TrainConfig
from training.config_io import field_types, get_field
from training.cost_report import cost_table, describe_memory, describe_speed
from training.dataset import TFRecordDataset
from training.image_grid import grid_dimensions
from training.memory_estimate import Costs, measure_costs
from training.schedule import schedule
from training.small_minibatch import small_minibatch_warnings
from training.startup import network_shape

_FLOAT_BYTES = 4
# Size of a grid file relative to its pixels; flat drawings need less, noise more.
_PICTURE_RATIO = {"png": 0.7, "jpg": 0.25}


@dataclass(frozen=True)
class NetworkSizes:
    """Numbers (of float32) in G and D."""

    G_trainable: int
    D_trainable: int
    G_total: int
    D_total: int


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

    return NetworkSizes(count(G.trainables), count(D.trainables), count(G.vars), count(D.vars))


def _sizes_of(costs: Costs) -> NetworkSizes:
    trainable = (sum(costs.G_parameters.values()), sum(costs.D_parameters.values()))
    return NetworkSizes(*trainable, costs.G_total, costs.D_total)


@contextlib.contextmanager
def ops_without_building(config: TrainConfig) -> Iterator[bool]:
    """The operations that training would use, but the reference ones where it would have to compile them first.

    Yields whether it came to that.
    """
    before = requested_impl()
    wanted = before if config.ops == "auto" else config.ops
    stands_in = wanted != "ref" and not is_built()
    set_default_impl("ref" if stands_in else wanted)
    try:
        yield stands_in
    finally:
        set_default_impl(before)


def plan_disk(config: TrainConfig, shape: tuple[int, int, int], sizes: NetworkSizes) -> DiskPlan:
    """What a run on images of shape (C, H, W) will write, given what it keeps."""
    plan, channels, height, width = config.snapshots, *shape
    step = schedule(config, 0, max(height, width))
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


def describe_run(
    config: TrainConfig, shape: tuple[int, int, int], label_size: int, memory_gb: float | None = None
) -> Iterator[str]:
    """Lines about a run on images of shape (C, H, W): networks, schedule, memory, disk.

    memory_gb: GiB of memory of one device; None: what the device of this machine has.
    """
    _, height, width = shape
    resolution = max(height, width)
    network = network_shape(config, shape) | {"label_size": label_size}
    with ops_without_building(config) as stands_in:
        costs = measure_costs(config, network)
    sizes = _sizes_of(costs)
    step = schedule(config, 0, resolution)
    rule = 0.0002 * height * width / step.batch
    size = config.D.mbstd_group_size
    group = step.batch_gpu if size is None else min(size, step.batch_gpu)
    yield f"Images        {width}x{height}, {shape[0]} channels, {label_size} label components"
    if "base_shape" in network:
        first = "x".join(map(str, reversed(network["base_shape"])))
        yield f"Networks      from {first}, doubled {network['resolution'].bit_length() - 3} times"
    yield f"G parameters  {sizes.G_trainable:,}"
    yield f"D parameters  {sizes.D_trainable:,}"
    yield from asymmetry_warnings(config, network["resolution"])
    yield (
        f"Minibatch     {step.batch} images = {config.num_gpus} tower(s) x {step.rounds} round(s) x "
        f"{step.batch_gpu} images; minibatch-stddev groups of {group}"
    )
    yield from small_minibatch_warnings(config)
    yield f"Length        {config.schedule.total_kimg:g} kimg, {step.kimg_per_tick:g} kimg per tick"
    yield (
        f"R1 gamma      {step.r1_gamma:g} (rule of thumb 0.0002 * width * height / minibatch = {rule:g}; "
        "raise it if training diverges)"
    )
    yield from describe_memory(config, costs, memory_gb)
    if stands_in:
        yield (
            "              That is with reference operations, and too much by up to 1.8 times; compiled ones need "
            "less, and are counted once they are built: python -m dnnlib.tflib.ops.build"
        )
    yield from describe_speed(config, costs, resolution)
    yield f"Disk          {plan_disk(config, shape, sizes)}"
    yield ""
    yield from cost_table(costs, network)


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
