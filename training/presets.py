"""A preset: one row of the table in run_training.py, and which fields of the configuration its columns set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Columns of the table. Every row gives every column; what is not here keeps its default in `training/config.py`.

    G, D: architectures; fmaps: fmap_base and fmap_max of both networks; z, w: sizes of latents and dlatents; mapping:
    layers of the mapping network and their width; batch: images per step, and per device at once; lr: of G and D;
    mixing: probability of style mixing; path: weight of path length regularisation, 0 off; ema: half-life of Gs in
    kimg; ramp: see `ema_rampup`; kimg: length of the run; tick: kimg per tick, None by resolution; every: ticks
    between grids, network snapshots and metrics.
    """

    G: str
    D: str
    fmaps: tuple[int, int]
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

    def fields(self) -> dict[str, Any]:
        """The row as {path of a field: value}."""
        (base, most), (layers, width), (batch, batch_gpu) = self.fmaps, self.mapping, self.batch
        return {
            "G.architecture": self.G,
            "D.architecture": self.D,
            "G.fmap_base": base,
            "D.fmap_base": base,
            "G.fmap_max": most,
            "D.fmap_max": most,
            "G.latent_size": self.z,
            "G.dlatent_size": self.w,
            "G.mapping_layers": layers,
            "G.mapping_fmaps": width,
            "G.style_mixing_prob": self.mixing,
            "loss.r1_gamma": self.gamma,
            "loss.pl_weight": self.path,
            "opt.G_lrate": self.lr,
            "opt.D_lrate": self.lr,
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
            "metrics.names": tuple(name for name in self.metrics.split(",") if name != "none"),
        }
