"""What the networks of a run cost: parameters, FLOPs and memory by resolution, found without running anything."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnlib.tflib.network import Network
from dnnlib.tflib.tfutil import num_gpus, tf
from training import schedule
from training.base_shape import image_size
from training.config import TrainConfig
from training.config_networks import D_kwargs, G_kwargs
from training.flops import op_flops, reachable
from training.memory_peak import Peak, level_of, memory_peak
from training.steps import TrainingGraph

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Costs:
    """Costs of G and D. Maps are by resolution of a block; 0: mapping network of G, output layer of D.

    G_parameters, D_parameters: trainable numbers; G_total, D_total: numbers in all variables; G_flops, D_flops: of one
    image through the network once; variables: bytes of networks, their average, optimizer and accumulators; peaks: by
    phase of a minibatch of `batch_gpu` images on one device, beyond the variables.
    """

    G_parameters: Mapping[int, int]
    D_parameters: Mapping[int, int]
    G_total: int
    D_total: int
    G_flops: Mapping[int, int]
    D_flops: Mapping[int, int]
    variables: int
    peaks: Mapping[str, Peak]
    batch_gpu: int

    @property
    def worst_phase(self) -> str:
        """The phase that needs most memory."""
        return max(self.peaks, key=lambda name: self.peaks[name].total)

    @property
    def activations(self) -> int:
        """Bytes that the worst phase needs beyond the variables."""
        return self.peaks[self.worst_phase].total

    def memory(self, batch_gpu: int) -> int:
        """Bytes of variables and the worst phase, with that many images at once."""
        peaks = (peak.constant + peak.growing * batch_gpu // self.batch_gpu for peak in self.peaks.values())
        return self.variables + max(peaks)

    def largest_batch(self, available: int) -> int:
        """The most images at once that fit into `available` bytes; 0 if not even one does."""
        per_image = max(peak.growing / self.batch_gpu for peak in self.peaks.values())
        guess = int(max(available - self.memory(0), 0) / per_image) + 1
        while guess > 0 and self.memory(guess) > available:
            guess -= 1
        return guess


class _NothingRuns(tf.Session):
    """A session that executes nothing: building networks sets no variable and takes no memory."""

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> None:
        """Does nothing."""


def measure_costs(config: TrainConfig, shape: Mapping[str, Any]) -> Costs:
    """Build the training graph of a run and count.

    shape: static arguments num_channels, resolution, base_shape, label_size of its networks.

    Raises:
        UserError: the configuration describes no network, e.g. `fmap_explicit` lacks a resolution.
    """
    sides = image_size(shape["resolution"], shape.get("base_shape"))
    step = schedule.schedule(config, 0, max(sides))
    plan = dataclasses.replace(config.schedule, batch=step.batch_gpu, batch_gpu=step.batch_gpu)
    alone = dataclasses.replace(config, num_gpus=1, schedule=plan)
    device = tf.ConfigProto(device_count={"GPU": 0})
    with tf.Graph().as_default() as graph, _NothingRuns(graph=graph, config=device):
        G = Network("G", func_name="G_main", **shape, **G_kwargs(config.G))
        D = Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))
        Gs = Network("Gs", func_name="G_main", **shape, **G_kwargs(config.G))
        flops = [_flops(net) for net in (G, D)]
        betas = (config.opt.beta1, config.opt.beta2)
        training = TrainingGraph(G, D, Gs, alone, step.batch_gpu, False, betas, betas)
        numbers = sum(_size(v) * v.dtype.size for v in tf.global_variables())
        if step.rounds > 1:
            numbers += sum(_size(v) * v.dtype.size for net in (G, D) for v in net.trainables.values())
        return Costs(
            _parameters(G),
            _parameters(D),
            sum(map(_size, G.vars.values())),
            sum(map(_size, D.vars.values())),
            *flops,
            numbers,
            phase_peaks(training, threads=config.device == "cpu" or not num_gpus()),
            step.batch_gpu,
        )


def phase_peaks(training: TrainingGraph, threads: bool) -> dict[str, Peak]:
    """The worst moment of each phase of a training graph without accumulation. threads: see `memory_peak`."""
    shapes = {tuple(sorted(d for d in v.shape.as_list() if d != 1)) for v in tf.global_variables()}
    peaks = {}
    for name, phase in training.phases.items():
        fetches = [phase.step, phase.step_norm.op, *(t.op for t in phase.stats.values())]
        peaks[name] = memory_peak(fetches, shapes - {()}, threads)
    return peaks


def _size(variable: tf.Variable) -> int:
    return int(np.prod(variable.shape.as_list(), dtype=np.int64))


def _parameters(net: Network) -> dict[int, int]:
    counts: Counter[int] = Counter()
    for name, variable in net.trainables.items():
        counts[level_of(name)] += _size(variable)
    return dict(counts)


def _flops(net: Network) -> dict[int, int]:
    """FLOPs of one image by level. Not from the template, whose minibatch is open: products of reshaped ones too."""
    inputs = [tf.zeros([1, *shape[1:]]) for shape in net.input_shapes]
    options = {"fused_modconv": False, "is_validation": True} if net.components else {}
    counts: Counter[int] = Counter()
    for op in reachable([net.get_output_for(*inputs, **options).op]):
        flops = op_flops(op)
        if flops:
            counts[level_of(op.name)] += flops
    return dict(counts)
