"""The configuration of a run: frozen dataclasses that check themselves.

`TrainConfig` is all there is to know about a run; `training_options.json` is exactly this object. Names follow the
published code (fmap_base, dlatent_size, r1_gamma ...), units are in the names (kimg = thousands of real images shown
to D). Defaults are those of StyleGAN2 config-f. Reading, writing and comparing configurations: `config_io.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from dnnlib.util import UserError
from training.base_shape import check_base_shape
from training.config_augment import AugmentConfig
from training.config_freeze import FreezeConfig
from training.config_networks import DiscriminatorConfig, GeneratorConfig
from training.config_precision import PrecisionConfig
from training.config_schedule import LossConfig, OptimizerConfig, ScheduleConfig
from training.config_types import Section, check_resolution
from training.config_watch import WatchConfig

GRID_SIZES = ("1080p", "4k", "8k")


@dataclass(frozen=True)
class DataConfig(Section):
    """Which images. The data set is the directory data_dir/dataset."""

    section: ClassVar[str] = "data"
    data_dir: str = ""  # directory that holds data sets; may change on resume
    dataset: str = ""  # name of the directory with the TFRecords
    resolution: int | None = None  # larger side in pixels; None: the largest the data set has
    base_shape: tuple[int, int] | None = None  # (height, width) of the networks' first block; None: chosen by images
    mirror_augment: bool = False  # flip every image left-right with probability 1/2
    max_images: int | None = None  # use only the first n images
    max_label_size: int | str = "full"  # 0: no labels; n: the first n components; full: all
    prefetch_mb: int = 64
    threads: int | None = None  # reading and decoding; None: chosen by the encoding of the data set

    def _check(self) -> None:
        if self.resolution is not None:
            check_resolution(self.resolution, self._path("resolution"))
        if self.base_shape is not None:
            check_base_shape(self.base_shape, self._path("base_shape"))
        if isinstance(self.max_label_size, str) and self.max_label_size != "full":
            self._refuse("max_label_size", "'full', 0 (no labels) or a number of components")
        if isinstance(self.max_label_size, int):
            self._at_least(0, "max_label_size")
        self._at_least(1, "max_images", "prefetch_mb", "threads")


@dataclass(frozen=True)
class SnapshotConfig(Section):
    """What a run writes and keeps. Periods are in ticks; 0 never."""

    section: ClassVar[str] = "snapshots"
    image_ticks: int = 10  # grid of fakes
    network_ticks: int = 10  # network-snapshot-NNNNNN.pkl
    state_ticks: int = 1  # training state to resume from
    first_tick: bool = True  # images and snapshot at the first tick too
    keep_snapshots: int | None = None  # None: all; n: the newest n, and always the best by each metric
    keep_states: int = 2
    grid_size: str | tuple[int, int] = "1080p"  # 1080p | 4k | 8k | (columns, rows), also written 16x8
    grid_psi: float | None = None  # truncation of the grid; None: none
    image_format: str = "png"  # png | jpg

    def _check(self) -> None:
        self._at_least(0, "image_ticks", "network_ticks", "state_ticks")
        self._at_least(1, "keep_snapshots", "keep_states")
        self._one_of("image_format", ("png", "jpg"))
        if isinstance(self.grid_size, str) and self.grid_size not in GRID_SIZES:
            parts = self.grid_size.split("x")
            if len(parts) != 2 or not all(part.isdecimal() for part in parts):
                self._refuse("grid_size", f"one of {', '.join(GRID_SIZES)}, or columns x rows such as 16x8")
            self._normalize(grid_size=(int(parts[0]), int(parts[1])))
        if not isinstance(self.grid_size, str) and min(self.grid_size) < 1:
            self._refuse("grid_size", "at least 1 column and 1 row")


@dataclass(frozen=True)
class MetricsConfig(Section):
    """What is measured on snapshots. Names are looked up in metrics/registry.py."""

    section: ClassVar[str] = "metrics"
    names: tuple[str, ...] = ("fid50k",)
    ticks: int = 10  # on network snapshots at least this many ticks apart; 0: only at the end
    skip_first: bool = True  # not of untrained networks: 50,000 images of noise are minutes of a GPU
    inception: str | None = None  # path or URL of the Inception graph, for fid50k
    num_gpus: int | None = None  # None: as in training

    def _check(self) -> None:
        self._at_least(0, "ticks")
        self._at_least(1, "num_gpus")
        if len(set(self.names)) != len(self.names) or "" in self.names:
            self._refuse("names", "distinct metric names")


@dataclass(frozen=True)
class TrainConfig(Section):
    """A complete run. Two runs with equal configurations, data and machine are the same run."""

    seed: int = 1000  # all randomness derives from (seed, tower, image counter)
    num_gpus: int = 1  # towers; on a CPU as well
    device: str = "auto"  # auto | cpu | gpu
    ops: str = "auto"  # auto | ref | compiled implementations of the custom ops
    deterministic: bool = False  # ask TensorFlow for GPU operations that add up in a fixed order: slower, some missing
    tf32: bool = False  # float32 convolutions in TensorFloat-32 on GPUs from Ampere on: faster, 10 bits of mantissa
    data: DataConfig = field(default_factory=DataConfig)
    G: GeneratorConfig = field(default_factory=GeneratorConfig)
    D: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    opt: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    snapshots: SnapshotConfig = field(default_factory=SnapshotConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)

    def _check(self) -> None:
        self._one_of("device", ("auto", "cpu", "gpu"))
        self._one_of("ops", ("auto", "ref", "compiled"))
        self._at_least(1, "num_gpus")
        if not 0 <= self.seed < 2**32:
            self._refuse("seed", "a whole number in [0, 2^32)")
        self._check_batch()
        if self.augment.mode == "ada" and self.loss.D_loss == "wgan":
            expected = f"none with loss.D_loss={self.loss.D_loss}, whose scores have signs that say nothing"
            self.augment._refuse("mode", expected, "choose adarv, fixed or noaug")
        for curve, steps, field_name, start in (
            ("gamma_curve", "gamma_steps", "loss.r1_gamma", self.loss.r1_gamma),
            ("mixing_curve", "mixing_steps", "G.style_mixing_prob", self.G.style_mixing_prob),
        ):
            points = getattr(self.schedule, steps)
            if getattr(self.schedule, curve) == "exponential" and points and points[0][0] > 0 and not start:
                expected = f"a curve that can start from {field_name}={start}"
                self.schedule._refuse(curve, expected, "use linear or cosine, or give a first point at 0 kimg")

    def _check_batch(self) -> None:
        """Every tower gets the same number of whole rounds, every round whole minibatch-stddev groups."""
        batches, per_gpu, towers = self.schedule.batches, self.schedule.batch_gpu, self.num_gpus
        for index, batch in enumerate(batches):
            if batch % towers:
                raise UserError(
                    f"schedule.batch{'_steps' if index else ''}: found {batch}, expected a multiple of "
                    f"num_gpus={towers}; use {batch - batch % towers or towers} or {batch - batch % towers + towers}"
                )
        if per_gpu is None:
            return
        choices = ", ".join(map(str, self.batch_gpu_choices())) + " (schedule.batch_gpu, --batch-gpu)"
        for batch in batches:
            if (batch // towers) % per_gpu:
                self.schedule._refuse("batch_gpu", f"a divisor of batch/num_gpus={batch}/{towers}", f"use {choices}")
        if not self._fits_mbstd(per_gpu):
            group = f"D.mbstd_group_size={self.D.mbstd_group_size}"
            expected = f"a multiple of {group} or fewer images than that"
            self.schedule._refuse("batch_gpu", expected, f"use {choices}, or another group size")

    def batch_gpu_choices(self) -> list[int]:
        """Every `schedule.batch_gpu` that fits all minibatches of the run, ascending."""
        per_tower = math.gcd(*self.schedule.batches) // self.num_gpus
        return [n for n in range(1, per_tower + 1) if per_tower % n == 0 and self._fits_mbstd(n)]

    def _fits_mbstd(self, batch_gpu: int) -> bool:
        """Minibatch stddev uses groups of min(group, n) images (paper: 4), which must divide the n images."""
        size = self.D.mbstd_group_size
        group = batch_gpu if size is None else min(size, batch_gpu)
        return group <= 1 or batch_gpu % group == 0
