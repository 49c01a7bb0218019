"""Costs of networks as lines to read: a table by resolution, and what fits into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dnnlib.submission.disk import format_bytes
from dnnlib.tflib.cpu_memory import machine_memory
from dnnlib.tflib.tfutil import num_gpus, tf
from training.base_shape import check_base_shape, level_shape
from training.config import TrainConfig
from training.memory_estimate import Costs

_GIB = 2**30
# What TensorFlow takes besides variables and tensors: (bytes, share of variables and tensors). GPU: libraries, code,
# workspace of convolutions; with it the estimate is within 2% of the published memory of config-f at 1024x1024
# (13.3 GB), config-e at 1024x1024 (8.6 GB) and config-f at 256x256 (6.4 GB), 4 images per GPU each. CPU: the process,
# and what its allocator keeps between losses; measured at 64x64 and 1024x1024, see docs/sizes.md.
_OVERHEAD = {"gpu": (int(3.25 * _GIB), 0.0), "cpu": (int(0.75 * _GIB), 0.25)}
# Seconds per thousand images on one V100: per GiB that an image takes at the worst moment (what memory has to move),
# and per TFLOP of G and D forward, which low precision halves. Fitted to published times, see docs/sizes.md.
_V100_PER_GIB, _V100_PER_TFLOP, _LOW_PRECISION = 75.0, 310.0, 0.5
_SMALLEST_FITTED = 256  # below, it is the number of operations that counts


def device_memory() -> int | None:
    """Bytes of memory of the first GPU, or of this machine where there is none; None: unknown."""
    if num_gpus():
        config = tf.ConfigProto(gpu_options=tf.GPUOptions(allow_growth=True))
        with tf.Session(graph=tf.Graph(), config=config) as session:
            return max(d.memory_limit_bytes for d in session.list_devices() if d.device_type == "GPU")
    return machine_memory()


def describe_memory(config: TrainConfig, costs: Costs, memory_gb: float | None) -> Iterator[str]:
    """What a run needs per device, and the most images at once that fit. memory_gb: GiB of a device, None: found."""
    on_gpu = config.device != "cpu" and (num_gpus() > 0 or memory_gb is not None)
    device = "gpu" if on_gpu else "cpu"
    (fixed, share), worst = _OVERHEAD[device], costs.peaks[costs.worst_phase]
    overhead = fixed + int(share * (costs.variables + worst.total))
    yield (
        f"Memory        about {format_bytes(costs.variables + worst.total + overhead)} per {device.upper()} tower: "
        f"variables and Adam {format_bytes(costs.variables)}; activations and gradients {format_bytes(worst.total)} "
        f"(in phase {costs.worst_phase}; {format_bytes(worst.growing // costs.batch_gpu)} per image); "
        f"TensorFlow {format_bytes(overhead)}"
    )
    available = device_memory() if memory_gb is None else int(memory_gb * _GIB)
    if available is None:
        return
    most = costs.largest_batch(int((available - fixed) / (1 + share)))
    fitting = [n for n in config.batch_gpu_choices() if n <= most]
    said = f"at most {most} image(s) at once" if most else "not even one image at once"
    line = f"Fits          {said} in {format_bytes(available)}"
    if fitting:
        line += f"; --batch-gpu {fitting[-1]} is the largest that divides the minibatch"
    if costs.batch_gpu > most:
        line += f". warning: {costs.batch_gpu} images at once do not fit"
    yield line


def v100_seconds(costs: Costs, low_precision: bool) -> float:
    """Seconds per thousand images of a minibatch on one V100, within a quarter of what was published."""
    gib = costs.peaks[costs.worst_phase].growing / costs.batch_gpu / _GIB
    tflop = sum([*costs.G_flops.values(), *costs.D_flops.values()]) / 1e12
    return _V100_PER_GIB * gib + _V100_PER_TFLOP * tflop * (_LOW_PRECISION if low_precision else 1)


def describe_speed(config: TrainConfig, costs: Costs, resolution: int) -> Iterator[str]:
    """How long a thousand images would take on GPUs whose times are published; nothing for small images."""
    if resolution < _SMALLEST_FITTED:
        return
    seconds = v100_seconds(costs, min(config.G.num_fp16_res, config.D.num_fp16_res) > 0) / config.num_gpus
    yield (
        f"Speed         about {seconds:.3g} s/kimg, {seconds * config.schedule.total_kimg / 86400:.3g} days in all, on "
        f"{config.num_gpus} V100 GPU(s), as published times of such networks go; ticks of the run say how it is here"
    )


def cost_table(costs: Costs, network: Mapping[str, Any]) -> Iterator[str]:
    """Parameters, FLOPs of one image and memory per image by resolution, with totals.

    network: static arguments resolution and base_shape. Memory is what the worst phase holds at its worst moment.
    """
    base, worst = check_base_shape(network.get("base_shape"), "network"), costs.peaks[costs.worst_phase]
    yield (
        f"{'Block':<18}{'G parameters':>14}{'D parameters':>14}{'G GFLOP':>10}{'D GFLOP':>10}{'memory/image':>14}   "
        f"(GFLOP: one image forward; memory: {costs.worst_phase})"
    )
    levels = [0, *(2**level for level in range(2, network["resolution"].bit_length()))]
    columns = (costs.G_parameters, costs.D_parameters, costs.G_flops, costs.D_flops, worst.by_level)
    for level in levels:
        height, width = level_shape(base, level.bit_length() - 1) if level else (0, 0)
        name = f"{width}x{height}" if level else "mapping, output"
        yield _row(name, [column.get(level, 0) for column in columns], costs.batch_gpu)
    yield _row("total", [sum(column.values()) for column in columns], costs.batch_gpu)


def _row(name: str, values: list[int], images: int) -> str:
    g, d, g_flops, d_flops, memory = values
    flops = f"{g_flops / 1e9:>10.2f}{d_flops / 1e9:>10.2f}"
    return f"{name:<18}{g:>14,}{d:>14,}{flops}{format_bytes(memory // images):>14}"
