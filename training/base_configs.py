"""Base configurations of StyleGAN2-ADA: a table, and the numbers that follow from resolution and number of GPUs.

Published with "Training Generative Adversarial Networks with Limited Data" (Karras et al. 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnnlib.util import UserError, list_nearest
from training.dataset import TFRecordDataset

FMAP_BASE, FMAP_MAX = 16384, 512
NUM_FP16_RES, CONV_CLAMP = 4, 256.0
TRANSFER_TUNE_KIMG = 100.0  # a network that knows something overfits sooner


@dataclass(frozen=True)
class BaseConfig:
    """One row. None: see `auto_numbers`.

    ref_gpus: the minibatch is made of sub-batches of batch / ref_gpus images, on any number of GPUs up to this (None:
    as many as there are); kimg: length; batch: images per step; mbstd: group of minibatch stddev; fmaps: factor on
    `FMAP_BASE`; lr: of G and D; gamma: R1 weight; ema: half-life of Gs in kimg; ramp: see `ema_rampup`; mapping:
    layers; regularized: path length and style mixing, as published for all but CIFAR-10; D: architecture.
    """

    ref_gpus: int | None
    kimg: float
    batch: int | None
    mbstd: int | None
    fmaps: float | None
    lr: float | None
    gamma: float | None
    ema: float | None
    ramp: float | None
    mapping: int
    regularized: bool = True
    D: str = "resnet"


# fmt: off
BASE_CONFIGS = {
    # A good start for any data set: numbers by resolution and GPUs.
    "auto":          BaseConfig(ref_gpus=None, kimg= 25000, batch=None, mbstd=None, fmaps=None, lr=None,   gamma=None, ema=None, ramp=0.05, mapping=2),  # noqa: E501
    # config-f, with mixed precision.
    "stylegan2":     BaseConfig(ref_gpus=8,    kimg= 25000, batch=32,   mbstd=4,    fmaps=1,    lr=0.002,  gamma=10,   ema=10,   ramp=None, mapping=8),  # noqa: E501
    # FFHQ and LSUN Cat at 256x256.
    "paper256":      BaseConfig(ref_gpus=8,    kimg= 25000, batch=64,   mbstd=8,    fmaps=0.5,  lr=0.0025, gamma=1,    ema=20,   ramp=None, mapping=8),  # noqa: E501
    # BreCaHAD and AFHQ at 512x512.
    "paper512":      BaseConfig(ref_gpus=8,    kimg= 25000, batch=64,   mbstd=8,    fmaps=1,    lr=0.0025, gamma=0.5,  ema=20,   ramp=None, mapping=8),  # noqa: E501
    # MetFaces at 1024x1024.
    "paper1024":     BaseConfig(ref_gpus=8,    kimg= 25000, batch=32,   mbstd=4,    fmaps=1,    lr=0.002,  gamma=2,    ema=10,   ramp=None, mapping=8),  # noqa: E501
    # CIFAR-10; published FID 2.42 with labels.
    "cifar":         BaseConfig(ref_gpus=2,    kimg=100000, batch=64,   mbstd=32,   fmaps=0.5,  lr=0.0025, gamma=0.01, ema=500,  ramp=0.05, mapping=2, regularized=False, D="orig"),  # noqa: E501
    # CIFAR-10 before tuning.
    "cifarbaseline": BaseConfig(ref_gpus=2,    kimg=100000, batch=64,   mbstd=32,   fmaps=0.5,  lr=0.0025, gamma=0.01, ema=500,  ramp=0.05, mapping=8),  # noqa: E501
}
# fmt: on


@dataclass(frozen=True)
class Numbers:
    """What a base configuration comes to."""

    batch: int
    batch_gpu: int
    mbstd: int
    fmaps: float
    lr: float
    gamma: float
    ema: float


def auto_numbers(resolution: int, num_gpus: int) -> Numbers:
    """The formulas of `auto`: as many images per step as fit, up to 64; everything else follows.

    resolution: of the images, the larger side; num_gpus: >= 1.
    """
    batch = max(min(num_gpus * min(4096 // resolution, 32), 64), num_gpus)
    return Numbers(
        batch=batch,
        batch_gpu=batch // num_gpus,
        mbstd=min(batch // num_gpus, 4),
        fmaps=1 if resolution >= 512 else 0.5,
        lr=0.002 if resolution >= 1024 else 0.0025,
        gamma=0.0002 * resolution**2 / batch,
        ema=batch * 10 / 32,
    )


def base_numbers(name: str, resolution: int, num_gpus: int) -> Numbers:
    """Numbers of a base configuration.

    Raises:
        UserError: unknown name (with the nearest), or more GPUs than it is made for.
    """
    row = find_base_config(name)
    if row.ref_gpus is None:
        return auto_numbers(resolution, num_gpus)
    if row.batch % num_gpus or num_gpus > row.ref_gpus:
        raise UserError(
            f"--cfg {name}: its minibatch of {row.batch} has {row.ref_gpus} parts, which do not spread over {num_gpus} "
            f"GPUs; use up to {row.ref_gpus} that divide it, or --batch-gpu"
        )
    return Numbers(row.batch, row.batch // row.ref_gpus, row.mbstd, row.fmaps, row.lr, row.gamma, row.ema)


def base_fields(
    name: str, resolution: int, num_gpus: int = 1, transfer: bool = False, labelled: bool = False
) -> dict[str, Any]:
    """The configuration as {path of a field: value}.

    transfer: the run starts from trained networks: Gs is no longer ramped up, p moves faster; labelled: the networks
    are conditional, and take labels as those of StyleGAN2-ADA do.
    Raises `UserError` as `base_numbers`.
    """
    row, numbers = find_base_config(name), base_numbers(name, resolution, num_gpus)
    shared = {
        "fmap_base": int(numbers.fmaps * FMAP_BASE),
        "fmap_max": FMAP_MAX,
        "num_fp16_res": NUM_FP16_RES,
        "conv_clamp": CONV_CLAMP,
    }
    return {
        **{f"{network}.{field}": value for network in ("G", "D") for field, value in shared.items()},
        **({"G.embed_labels": True, "D.project_labels": True} if labelled else {}),
        "G.mapping_layers": row.mapping,
        "G.style_mixing_prob": 0.9 if row.regularized else None,
        "D.architecture": row.D,
        "D.mbstd_group_size": numbers.mbstd,
        "loss.r1_gamma": numbers.gamma,
        "loss.pl_weight": 2.0 if row.regularized else 0.0,
        "opt.G_lrate": numbers.lr,
        "opt.D_lrate": numbers.lr,
        "augment.mode": "ada",
        **({"augment.tune_kimg": TRANSFER_TUNE_KIMG} if transfer else {}),
        "schedule.batch": numbers.batch,
        "schedule.batch_gpu": numbers.batch_gpu,
        "schedule.total_kimg": row.kimg,
        "schedule.kimg_per_tick": 4.0,
        "schedule.ema_kimg": numbers.ema,
        "schedule.ema_rampup": None if transfer else row.ramp,
        "snapshots.image_ticks": 50,
        "snapshots.network_ticks": 50,
        "snapshots.grid_size": "8k",
        "metrics.ticks": 50,
        "metrics.names": ("fid50k_full",),
    }


def find_base_config(name: str) -> BaseConfig:
    """Row of the table. Raises `UserError` with the nearest name."""
    if name not in BASE_CONFIGS:
        raise UserError(f"unknown base configuration {name!r}: {list_nearest(name, BASE_CONFIGS)}")
    return BASE_CONFIGS[name]


def find_data(
    data_dir: str, dataset: str | None, resolution: int | None, max_label_size: int | str
) -> tuple[int, bool]:
    """(`resolution`, or the largest of the data set; whether there are labels): what the numbers depend on.

    max_label_size: as in the configuration, 0: no labels. Where the resolution is given, a data set that is not there
    counts as one without labels: whoever opens it will say so.

    Raises:
        UserError: neither is given, or there is no such data set.
    """
    if resolution is not None and not (dataset and (Path(data_dir) / dataset).is_dir()):
        return resolution, False
    if not dataset:
        raise UserError("--cfg: its numbers depend on the resolution; give --dataset NAME or --resolution N")
    opened = TFRecordDataset(Path(data_dir) / dataset, max_label_size=max_label_size)
    try:
        return resolution or opened.resolution, opened.label_size > 0
    finally:
        opened.close()
