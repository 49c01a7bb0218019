"""Run by test_threads.py: `python -m tests.dnnlib.ops.thread_results THREADS FILE.npz`.

Writes what the compiled ops give (results, first and second gradients) and the gradients of all phases of training a
tiny network, with that many intra-op threads. A process of its own: TensorFlow has one pool of threads per process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from dnnlib.tflib import ops, tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.ops.conv_3x3 import conv_3x3
from dnnlib.tflib.tfutil import tf
from tests.tiny import tiny_config
from training.config_networks import D_kwargs, G_kwargs
from training.steps import MinibatchSettings, TrainingGraph

# Large enough that TensorFlow cuts the work into more pieces than there are threads.
SAMPLES, SIZE = 3, 33
FILTER_2D = np.outer([1, 2, 3, 1], [2, 1, 1, 3]) + np.eye(4)  # not separable


def images(channels: int, data_format: str) -> tuple[int, ...]:
    """Shape of a batch of images."""
    return (SAMPLES, channels, SIZE, SIZE) if data_format == "NCHW" else (SAMPLES, SIZE, SIZE, channels)


def cases() -> dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]]:
    """Name -> (op, shapes of its operands)."""
    made: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {}
    for layout in ("NCHW", "NHWC"):
        for channels in (3, 40):
            x = images(channels, layout)
            for name, k, options in (
                ("same", [1, 3, 3, 1], dict(pad=2)),
                ("up", [1, 3, 3, 1], dict(up=2, pad=(2, 1, 2, 1))),
                ("down", [1, 3, 3, 1], dict(down=2, pad=1)),
                ("skewed", FILTER_2D, dict(pad=2)),
                ("long", np.arange(1, 13), dict(up=3, down=2, pad=6)),
            ):
                made[f"upfirdn_2d {name} {layout} {channels}"] = (
                    lambda x, k=k, layout=layout, o=options: ops.upfirdn_2d(
                        x, k, data_format=layout, impl="compiled", **o
                    ),
                    [x],
                )
            axis = 1 if layout == "NCHW" else 3
            for act in ("lrelu", "swish"):
                made[f"fused_bias_act {act} {layout} {channels}"] = (
                    lambda x, b, act=act, axis=axis: ops.fused_bias_act(x, b, act, axis=axis, impl="compiled"),
                    [x, (channels,)],
                )
            noise = images(1, layout)
            made[f"modulated_epilogue {layout} {channels}"] = (
                lambda x, scale, noise, strength, b, layout=layout: ops.modulated_epilogue(
                    x, scale, noise, strength, b, data_format=layout, impl="compiled"
                ),
                [x, (SAMPLES, channels), noise, (), (channels,)],
            )
    for layout in ("per_sample", "grouped"):
        for demodulate in (True, False):
            made[f"modulate_weights {layout} {demodulate}"] = (
                lambda w, s, layout=layout, d=demodulate: ops.modulate_weights(
                    w, s, demodulate=d, layout=layout, impl="compiled"
                ),
                [(3, 3, 45, 40), (SAMPLES, 45)],
            )
    for size, stride in ((3, 1), (5, 2), (7, 1)):
        made[f"depthwise_conv_2d {size} {stride}"] = (
            lambda x, w, b, stride=stride: ops.depthwise_conv_2d(x, w, b, stride, (-2, 6), impl="compiled"),
            [images(40, "NHWC"), (size, size, 40, 1), (40,)],
        )
    for stride in (1, 2):
        for maps in ((48, 16), (288, 304)):  # the latter in groups, and sums in several blocks
            made[f"conv_3x3 {stride} {maps}"] = (
                lambda x, w, stride=stride: conv_3x3(x, w, stride),
                [images(maps[0], "NHWC"), (3, 3, *maps)],
            )
    made["demodulation"] = (lambda w, s: ops.demodulation(w, s, impl="compiled"), [(3, 3, 45, 40), (SAMPLES, 45)])
    return made


def op_results() -> dict[str, Any]:
    """Name -> tensor: results, gradients, and gradients of a function of the gradients."""
    random = np.random.RandomState(3)
    found = {}
    for name, (build, shapes) in cases().items():
        operands = [tf.constant(random.randn(*shape), tf.float32) for shape in shapes]
        # Work is cut alike for all types, so that few channels need not be tried in each.
        single = name.endswith(" 3") or name.startswith("conv_3x3")
        for dtype in ("float32",) if single else ("float32", "bfloat16"):
            wide = name.startswith("modulated_epilogue")
            inputs = [t if wide and i in (1, 3, 4) else tf.cast(t, dtype) for i, t in enumerate(operands)]
            y = build(*inputs)
            dy = tf.constant(random.randn(*y.shape.as_list()), y.dtype)
            gradients = tf.gradients(y, inputs, dy)
            second = [t for t in tf.gradients([tf.square(g) for g in gradients], [*inputs, dy]) if t is not None]
            for kind, tensors in (("y", [y]), ("gradient", gradients), ("second", second)):
                found |= {f"{name} {dtype} {kind} {i}": tf.cast(t, tf.float32) for i, t in enumerate(tensors)}
    return found


def gradients_of_training() -> dict[str, np.ndarray]:
    """Gradients of all phases of training and their statistics, by phase and name.

    The learning rates are 0, so that all phases see the same weights, and Adam's beta1 is 0, so that its first moments
    are the gradients.
    """
    config = tiny_config()
    batch = config.schedule.batch
    shape = dict(num_channels=3, resolution=16, label_size=0)
    G = Network("G", func_name="G_main", **shape, **G_kwargs(config.G))
    D = Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))
    graph = TrainingGraph(G, D, G.clone("Gs"), config, batch, False, (0.0, 0.99), (0.0, 0.99))
    settings = MinibatchSettings(0.0, 0.0, 10.0, 0.9, 1)
    reals = np.random.RandomState(0).randint(0, 256, [batch, 3, 16, 16]).astype(np.uint8)
    labels = np.zeros([batch, 0], np.float32)
    found: dict[str, Any] = {}
    for phase in graph.phases:
        stats = graph.run_phase(phase, 0, settings, reals, labels, labels)
        moments = {n: v for n, v in graph.variables.items() if n.startswith(f"Train{phase[0]}/") and n.endswith("/m")}
        found |= {f"train {phase} {name}": value for name, value in {**tfutil.run(moments), **stats}.items()}
    return found


def main(threads: int, path: str) -> None:
    """Compute everything and write it."""
    pools = {"intra_op_parallelism_threads": threads, "inter_op_parallelism_threads": 1}
    # All operands are constants: an optimiser may compute what depends on them, in threads of its own.
    as_built = {"graph_options.rewrite_options.disable_meta_optimizer": True}
    with tf.Graph().as_default(), tfutil.create_session(pools | as_built) as session:
        results = session.run(op_results())
    with tf.Graph().as_default(), tfutil.create_session(pools | as_built):
        tf.set_random_seed(1)  # for the initial values
        results |= gradients_of_training()
    np.savez(path, threads=len(os.listdir("/proc/self/task")), **results)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
