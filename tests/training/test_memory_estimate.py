"""Costs of networks: memory against TensorFlow's own record of a step, FLOPs and parameters against closed forms."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.tfutil import tf
from tests.memory_trace import traced_peak
from training import schedule
from training.asymmetry import asymmetry_warnings
from training.config import TrainConfig
from training.config_io import apply_set
from training.config_networks import D_kwargs, G_kwargs
from training.cost_report import cost_table, describe_memory, describe_speed, v100_seconds
from training.memory_estimate import Costs, measure_costs, phase_peaks
from training.memory_peak import Peak, level_of, memory_peak
from training.steps import MinibatchSettings, TrainingGraph

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20


def small_config(*assignments):
    return apply_set(
        TrainConfig(),
        "G.latent_size=16", "G.dlatent_size=16", "G.mapping_layers=2", "G.mapping_fmaps=16",
        "G.fmap_base=512", "D.fmap_base=512", "G.fmap_max=32", "D.fmap_max=32",
        "schedule.batch=8", "schedule.batch_gpu=8", *assignments,
    )  # fmt: skip


# Options of a run, and static arguments of its networks.
MEASURED = {
    "plain": ([], {}),
    # fused_modconv: one convolution per sample, as on GPUs.
    "all else": (
        ["G.fused_modconv=true", "G.attention_resolution=8", "D.attention_resolution=8", "G.spectral_norm=true",
         "D.spectral_norm=true", "G.num_fp16_res=2", "D.num_fp16_res=2", "G.conv_clamp=256", "augment.mode=ada"],
        {"label_size": 5, "base_shape": [6, 4]},
    ),
}  # fmt: skip


def estimated_and_reported(case):
    """Bytes at the worst moment of every phase of a whole minibatch at 16x16: {phase: (estimate, of TensorFlow)}.

    The thread that asks executes everything, in the order of readiness, as a GPU's thread does: with a pool of threads,
    even of one, the order and with it the peak differs from run to run.
    """
    sets, options = MEASURED[case]
    config, shape = small_config(*sets), dict(num_channels=3, resolution=16, label_size=0) | options
    reported, run = [], tfutil.run

    def traced(fetches, feeds):
        metadata = tf.RunMetadata()
        options = tf.RunOptions(
            trace_level=tf.RunOptions.FULL_TRACE, output_partition_graphs=True, inter_op_thread_pool=-1
        )
        values = run(fetches, feeds, options=options, run_metadata=metadata)
        reported.append(traced_peak(metadata))
        return values

    with tf.Graph().as_default(), tfutil.create_session(), pytest.MonkeyPatch.context() as patched:
        G = Network("G", func_name="G_main", **shape, **G_kwargs(config.G))
        D = Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))
        training = TrainingGraph(G, D, G.clone("Gs"), config, 8, False, (0.0, 0.99), (0.0, 0.99))
        estimated = {name: peak.total for name, peak in phase_peaks(training, threads=False).items()}
        settings = MinibatchSettings(0.001, 0.001, 10.0, 0.99, 1)
        reals, labels = np.zeros([8, *G.output_shape[1:]], np.uint8), np.zeros([8, shape["label_size"]], np.float32)
        patched.setattr(tfutil, "run", traced)
        for name in estimated:
            training.run_phase(name, 0, settings, reals, labels, labels)
    return {name: (peak, truth) for (name, peak), truth in zip(estimated.items(), reported, strict=True)}


_IN_A_PROCESS = "import json, sys; from tests.training import test_memory_estimate as t\n"
_IN_A_PROCESS += "print(json.dumps(t.estimated_and_reported(sys.argv[1])))"


@pytest.mark.parametrize("case", MEASURED)
def test_estimate_is_near_what_tensorflow_reports(case):
    """Within 15%. In a process with the C library's memory: large blocks of TensorFlow's own report what they give out,
    which may be twice what was asked for, and depends on what was there before."""
    command = [sys.executable, "-c", _IN_A_PROCESS, case]
    environment = {**os.environ, "TF_CPU_ALLOCATOR_USE_BFC": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == ["G_main", "G_reg", "D_main", "D_reg"]
    for name, (estimated, reported) in found.items():
        assert reported > 2 * MIB
        assert estimated == pytest.approx(reported, rel=0.15), name


def test_of_two_orders_the_worse_counts():
    """Branches that are wide for a moment are so together breadth first, one after the other depth first."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [10, 100])
        done = tf.add_n([tf.reduce_sum(tf.roll(tf.roll(x, i, 0), 1, 1)) for i in range(1, 5)])
        in_order, with_threads = memory_peak([done.op]), memory_peak([done.op], threads=True)
    assert in_order.total == 5 * 4000  # the first of a branch is freed when the second is there
    assert with_threads.total == in_order.total
    with tf.Graph().as_default():
        a = tf.math.lgamma(tf.placeholder(tf.float32, [1000]))  # 4000 bytes, read twice
        soon = tf.nn.l2_loss(a)
        late = tf.nn.l2_loss(tf.cast(tf.math.lgamma(a), tf.float64))
        fetches = [soon.op, late.op]
        in_order, with_threads = memory_peak(fetches), memory_peak(fetches, threads=True)
    assert in_order.total == 4000 + 8000  # a is gone when the cast begins
    assert with_threads.total == 4000 + 4000 + 8000  # the branch that became ready last ran first


def test_tensors_are_freed_after_their_last_reader():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [8, 1000])  # fed: not counted
        a = tf.transpose(x, name="8x8/a")  # 32000 bytes
        b = tf.transpose(a, name="b")  # another 32000; a is read once more
        c = tf.concat([b, tf.transpose(a)], axis=0, name="c")  # b and the second transposition, then 64000 more
        done = tf.reduce_sum(tf.reshape(tf.square(c), [-1]))  # in place, renamed
        peak = memory_peak([done.op], {(8, 1000)})
    assert (peak.total, peak.at) == (128000, "c")
    assert peak.constant == 2 * 32000
    assert peak.by_level[0] == 64000
    assert level_of("G/8x8/Conv") == 8
    assert level_of("grad/16x16/ToRGB/x_grad/y") == 16
    assert level_of("G_mapping/Dense0") == 0


def test_an_input_that_is_read_again_is_not_overwritten():
    with tf.Graph().as_default():
        a = tf.transpose(tf.placeholder(tf.float32, [10, 100]))
        once = memory_peak([tf.exp(a).op])
        twice = memory_peak([(tf.exp(a) * tf.transpose(tf.transpose(a))).op])
    assert once.total == 4000
    assert twice.total == 3 * 4000


def test_rectangles_are_counted_with_the_minibatch_that_they_train_with():
    config = small_config("schedule.batch=32", "schedule.batch_gpu=none", "G.fmap_max=2", "D.fmap_max=2")
    costs = measure_costs(config, dict(num_channels=1, resolution=64, base_shape=[2, 16], label_size=0))
    assert costs.batch_gpu == schedule.choose_batch_gpu(config, 256) == 16


def test_flops_and_parameters_by_hand():
    """8x8, 3 channels; feature maps 16 at 4x4 and 8 at 8x8."""
    config = small_config("G.fmap_base=32", "D.fmap_base=32", "G.fmap_max=16", "D.fmap_max=16")
    costs = measure_costs(config, dict(num_channels=3, resolution=8, label_size=0))
    conv0, down, skip = 9 * 8 * 8 * 64, 9 * 8 * 16 * 16, 8 * 16 * 16
    assert costs.D_flops[8] == 2 * (3 * 8 * 64 + conv0 + down + skip)
    assert costs.D_flops[4] == 2 * (9 * 17 * 16 * 16 + 256 * 16)
    assert costs.D_flops[0] == 2 * 16
    assert costs.G_flops[0] == 2 * 2 * 16 * 16
    styles, demodulation = 16 * (16 + 16), 16 * 16
    assert costs.G_flops[4] == 2 * (9 * 16 * 16 * 16 + 16 * 3 * 16 + styles + demodulation)
    assert costs.D_parameters == {
        8: 3 * 8 + 8 + 9 * 64 + 8 + 9 * 128 + 16 + 128,
        4: 9 * 17 * 16 + 16 + 256 * 16 + 16,
        0: 17,
    }
    assert sum(costs.G_parameters.values()) < costs.G_total
    everything = 4 * (
        2 * costs.G_total + costs.D_total + 2 * sum([*costs.G_parameters.values(), *costs.D_parameters.values()])
    )
    assert everything <= costs.variables < everything + 600  # and counters, and Adam's powers of every variable


COSTS = Costs({0: 5, 4: 7}, {4: 8}, 20, 9, {4: 10**9}, {4: 2 * 10**9}, 1000,
              {"G_main": Peak({4: 400}, 50), "D_reg": Peak({0: 10, 4: 600}, 10)}, 4)  # fmt: skip


def test_memory_by_hand():
    assert COSTS.worst_phase == "D_reg"
    assert COSTS.memory(4) == 1000 + 610 + 10
    assert COSTS.memory(1) == 1000 + 152 + 10
    assert COSTS.largest_batch(1000 + 610 + 10) == 4
    assert COSTS.largest_batch(1000 + 609 + 10) == 3
    assert COSTS.largest_batch(900) == 0


def test_the_report_names_the_largest_minibatch():
    config = apply_set(TrainConfig(), "schedule.batch=32", "schedule.batch_gpu=4", "device=cpu")
    memory, fits = describe_memory(config, COSTS, 0.75 + 3000 * 1.25 / 2**30)
    assert "variables and Adam 1000 B; activations and gradients 620 B (in phase D_reg; 152 B per image)" in memory
    assert "at most 13 image(s) at once in 768.0 MiB; --batch-gpu 8 is the largest" in fits
    assert "warning" not in fits
    *_, fits = describe_memory(config, COSTS, 0.1)
    assert "not even one image" in fits
    assert "warning: 4 images at once do not fit" in fits
    table = list(cost_table(COSTS, {"resolution": 8, "base_shape": [4, 6]}))
    assert [line.split()[0] for line in table] == ["Block", "mapping,", "6x4", "12x8", "total"]
    assert table[2].split()[1:6] == ["7", "8", "1.00", "2.00", "150"]


# GiB per image, GFLOP of G and D, low precision -> published V100 seconds per kimg (times the number of GPUs).
PUBLISHED_TIMES = {
    "config-e, 1024": (1.1, 90, False, 122.5),  # 35 days 11 h for 25000 kimg on one
    "config-f, 1024": (2.2, 302, False, 241.8),  # 69 days 23 h
    "config-f, 256": (0.51, 183, False, 112.5),  # 32 days 13 h
    "M, 1024": (3.3, 582, False, 4 * 106),
    "L in float32, 1024": (4.4, 970, False, 4 * 135),
    "L, 1024": (2.2, 970, True, 4 * 100),
    "XL, 1024": (2.84, 1516, True, 4 * 135),
    "XXXL, 512": (1.4, 1794, True, 4 * 85),
    "XXXL, 1024": (3.0, 2327, True, 4 * 130),
}


@pytest.mark.parametrize("name", list(PUBLISHED_TIMES))
def test_speed_is_about_what_was_published(name):
    gib, gflop, low, seconds = PUBLISHED_TIMES[name]
    costs = Costs({}, {}, 0, 0, {4: gflop * 4 * 10**8}, {4: gflop * 6 * 10**8}, 0,
                  {"G_main": Peak({4: int(4 * gib * 2**30)}), "D_main": Peak({4: 1})}, 4)  # fmt: skip
    assert v100_seconds(costs, low) == pytest.approx(seconds, rel=0.25)


def test_speed_of_several_gpus():
    config = apply_set(TrainConfig(), "num_gpus=4", "schedule.batch_gpu=4", "total_kimg=1000")
    costs = Costs({}, {}, 0, 0, {4: 10**12}, {4: 10**12}, 0, {"G_main": Peak({4: 4 * 2**30})}, 4)
    (line,) = describe_speed(config, costs, 1024)
    assert "about 174 s/kimg, 2.01 days in all, on 4 V100" in line  # (75 + 2 * 310) / 4
    (line,) = describe_speed(apply_set(config, "G.num_fp16_res=4", "D.num_fp16_res=4"), costs, 1024)
    assert "about 96.2 s/kimg" in line
    assert not list(describe_speed(config, costs, 128))


def test_unequal_capacity_is_warned_of():
    assert not list(asymmetry_warnings(TrainConfig(), 1024))
    (line,) = asymmetry_warnings(apply_set(TrainConfig(), "G.fmap_base=32768"), 128)
    assert "(128: 512 and 256)" in line
    assert '"Scaling up StyleGAN2", annex B' in line
    assert not list(asymmetry_warnings(apply_set(TrainConfig(), "G.fmap_base=32768"), 32))


def test_schedule_of_rectangles_is_that_of_the_larger_square():
    assert schedule.schedule(TrainConfig(), 0, 640).kimg_per_tick == 4
    assert schedule.schedule(TrainConfig(), 0, 192).kimg_per_tick == 8
