"""Estimates of memory and disk against published and counted numbers."""

import numpy as np

from training.config import TrainConfig
from training.config_io import apply_set
from training.describe import NetworkSizes, describe_config, plan_disk

SIZES = NetworkSizes(G_trainable=10, D_trainable=20, G_total=12, D_total=20)


def test_disk_by_hand():
    # 10 kimg in ticks of 2: ticks 1 to 5. Networks at the start and ticks 2, 4, 5; grids: reals, start, ticks 3, 5.
    config = apply_set(
        TrainConfig(), "total_kimg=10", "kimg_per_tick=2", "batch=16", "network_ticks=2", "image_ticks=3",
        "grid_size=2x3", "metrics.names=fid50k",
    )  # fmt: skip
    plan = plan_disk(config, (3, 8, 8), SIZES)
    assert plan.snapshots == (4 * (12 + 12 + 20), 4)
    assert plan.states == (4 * (12 + 12 + 20 + 2 * 30), 2)
    assert plan.images[1] == 4
    assert 0 < plan.images[0] <= 2 * 3 * 3 * 8 * 8
    assert plan.total == sum(np.prod(part) for part in (plan.snapshots, plan.states, plan.images))
    assert plan_disk(apply_set(config, "keep_snapshots=2"), (3, 8, 8), SIZES).snapshots[1] == 3  # and the best
    assert plan_disk(apply_set(config, "first_tick=no"), (3, 8, 8), SIZES).snapshots[1] == 3
    assert plan_disk(apply_set(config, "network_ticks=0", "first_tick=no"), (3, 8, 8), SIZES).snapshots[1] == 1
    assert "4 snapshots of 176 B" in str(plan)


def test_configuration_lines_mark_what_differs():
    lines = list(describe_config(apply_set(TrainConfig(), "seed=3", "grid_size=2x3")))
    assert [line.split() for line in lines if "default" in line] == [
        ["seed", "3", "(default", "1000)"],
        ["snapshots.grid_size", "[2,", "3]", "(default", "1080p)"],
    ]
