"""A preset: one row of the table in run_training.py, and which fields of the configuration its columns set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.fmaps import SIZES

Steps = tuple[tuple[float, float], ...]
_CLAMP = 256.0  # as published for mixed precision


@dataclass(frozen=True)
class Preset:
    """Columns of the table. Every row gives those without a default; what is no column keeps its default in
    `training/config.py`.

    G, D: architectures; fmaps: fmap_base and fmap_max of both networks, or a name of `SIZES`; z, w: sizes of latents
    and dlatents; mapping: layers of the mapping network and their width; batch: images per step, and per device at
    once; lr: of G and D; mixing: probability of style mixing; path: weight of path length regularisation, 0 off; ema:
    half-life of Gs in kimg; ramp: see `ema_rampup`; kimg: length of the run; tick: kimg per tick, None by resolution;
    every: ticks between grids, network snapshots and metrics; fp16: how many of the highest resolutions run in low
    precision, with activations clamped to +-256; lr_steps, d_lr_steps, gamma_steps: ((kimg, value), ...) from where on
    other values hold; aug: noaug, or ada for adaptive augmentation; diffaug: policies of differentiable
    augmentation of all that D sees; mirror: show every image left-right reversed half of the time; first: measure the
    untrained networks, too.
    """

    G: str
    D: str
    fmaps: tuple[int, int] | str
    z: int
    w: int
    mapping: tuple[int, int]
    batch: tuple[int, int]
    lr: float
    gamma: float
    mixing: float | None
    path: float
    ema: float
    ramp: float | None
    kimg: float
    tick: float | None
    every: tuple[int, int, int]
    grid: str
    metrics: str
    fp16: int = 0
    lr_steps: Steps = ()
    d_lr_steps: Steps | None = None  # None: as lr_steps
    gamma_steps: Steps = ()
    aug: str = "noaug"
    diffaug: tuple[str, ...] = ()
    mirror: bool = False
    first: bool = False

    def fields(self) -> dict[str, Any]:
        """The row as {path of a field: value}."""
        (layers, width), (batch, batch_gpu) = self.mapping, self.batch
        clamp = _CLAMP if self.fp16 else None
        return {
            "G.architecture": self.G,
            "D.architecture": self.D,
            **self._feature_maps(),
            "G.num_fp16_res": self.fp16,
            "D.num_fp16_res": self.fp16,
            "G.conv_clamp": clamp,
            "D.conv_clamp": clamp,
            "G.latent_size": self.z,
            "G.dlatent_size": self.w,
            "G.mapping_layers": layers,
            "G.mapping_fmaps": width,
            "G.style_mixing_prob": self.mixing,
            "loss.r1_gamma": self.gamma,
            "loss.pl_weight": self.path,
            "augment.mode": self.aug,
            "augment.diffaugment": self.diffaug,
            "data.mirror_augment": self.mirror,
            "opt.G_lrate": self.lr,
            "opt.D_lrate": self.lr,
            "schedule.G_lrate_steps": self.lr_steps,
            "schedule.D_lrate_steps": self.lr_steps if self.d_lr_steps is None else self.d_lr_steps,
            "schedule.gamma_steps": self.gamma_steps,
            "schedule.batch": batch,
            "schedule.batch_gpu": batch_gpu,
            "schedule.total_kimg": self.kimg,
            "schedule.kimg_per_tick": self.tick,
            "schedule.ema_kimg": self.ema,
            "schedule.ema_rampup": self.ramp,
            "snapshots.image_ticks": self.every[0],
            "snapshots.network_ticks": self.every[1],
            "snapshots.grid_size": self.grid,
            "metrics.ticks": self.every[2],
            "metrics.skip_first": not self.first,
            "metrics.names": tuple(name for name in self.metrics.split(",") if name != "none"),
        }

    def _feature_maps(self) -> dict[str, Any]:
        if isinstance(self.fmaps, str):
            return {f"{net}.fmap_explicit": dict(SIZES[self.fmaps]) for net in ("G", "D")}
        return {
            f"{net}.fmap_{field}": n for net in ("G", "D") for field, n in zip(("base", "max"), self.fmaps, strict=True)
        }
