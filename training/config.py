"""The configuration of a run: frozen dataclasses that check themselves.

`TrainConfig` is all there is to know about a run; `training_options.json` is exactly this object. Names follow the
published code (fmap_base, dlatent_size, r1_gamma ...), units are in the names (kimg = thousands of real images shown
to D). Defaults are those of StyleGAN2 config-f. Reading, writing and comparing configurations: `config_io.py`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dnnlib.util import UserError
from training.config_types import Section, check_resolution, is_power_of_two, non_default_fields

ARCHITECTURES = ("orig", "skip", "resnet")
NONLINEARITIES = ("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")
GRID_SIZES = ("1080p", "4k", "8k")


class _FeatureMaps(Section):
    """What G and D share: channel counts (spec: nf(stage)), the resampling filter, precision."""

    def _check_network(self) -> None:
        self._one_of("architecture", ARCHITECTURES)
        self._one_of("nonlinearity", NONLINEARITIES)
        self._at_least(1, "fmap_base", "fmap_min", "fmap_max")
        self._at_least(0, "fmap_decay", "num_fp16_res")
        self._positive("conv_clamp")
        if self.fmap_min > self.fmap_max:
            self._refuse("fmap_min", f"at most {self._path('fmap_max')}={self.fmap_max}")
        if not self.resample_kernel or sum(self.resample_kernel) <= 0:
            self._refuse("resample_kernel", "taps with a positive sum, e.g. [1,3,3,1]")
        for resolution, fmaps in (self.fmap_explicit or {}).items():
            if not is_power_of_two(resolution) or resolution < 4 or fmaps < 1:
                self._refuse("fmap_explicit", 'power-of-two resolutions >= 4 to counts >= 1, e.g. {"4": 64, "8": 32}')


@dataclass(frozen=True)
class DataConfig(Section):
    """Which images. The data set is the directory data_dir/dataset."""

    section: ClassVar[str] = "data"
    data_dir: str = ""  # directory that holds data sets; may change on resume
    dataset: str = ""  # name of the directory with the TFRecords
    resolution: int | None = None  # None: the largest the data set has
    mirror_augment: bool = False  # flip every image left-right with probability 1/2
    max_images: int | None = None  # use only the first n images
    max_label_size: int | str = "full"  # 0: no labels; n: the first n components; full: all
    prefetch_mb: int = 64
    threads: int | None = None  # reading and decoding; None: chosen by the encoding of the data set

    def _check(self) -> None:
        if self.resolution is not None:
            check_resolution(self.resolution, self._path("resolution"))
        if isinstance(self.max_label_size, str) and self.max_label_size != "full":
            self._refuse("max_label_size", "'full', 0 (no labels) or a number of components")
        if isinstance(self.max_label_size, int):
            self._at_least(0, "max_label_size")
        self._at_least(1, "max_images", "prefetch_mb", "threads")


@dataclass(frozen=True)
class GeneratorConfig(_FeatureMaps):
    """G: mapping z -> w and synthesis w -> image. Field names are the static arguments of the builder `G_main`."""

    section: ClassVar[str] = "G"
    latent_size: int = 512  # dimensions of z
    dlatent_size: int = 512  # dimensions of w
    mapping_layers: int = 8
    mapping_fmaps: int = 512  # width of the hidden mapping layers
    mapping_lrmul: float = 0.01  # learning rate multiplier of the mapping layers
    architecture: str = "skip"  # orig | skip | resnet
    fmap_base: int = 16384  # nf(stage) = clip(int(base / 2^(stage * decay)), min, max)
    fmap_decay: float = 1.0
    fmap_min: int = 1
    fmap_max: int = 512
    fmap_explicit: dict[int, int] | None = None  # resolution -> feature maps, instead of the formula
    use_noise: bool = True
    resample_kernel: tuple[int, ...] = (1, 3, 3, 1)
    nonlinearity: str = "lrelu"
    fused_modconv: bool | None = None  # None: chosen by device
    num_fp16_res: int = 0  # how many of the highest resolutions run in low precision
    conv_clamp: float | None = None  # clamp activations of convolutions to +-value
    style_mixing_prob: float | None = 0.9  # None: no mixing
    dlatent_avg_beta: float | None = 0.995  # decay of the running mean of w; None: not tracked

    def _check(self) -> None:
        self._check_network()
        self._at_least(1, "latent_size", "dlatent_size", "mapping_layers", "mapping_fmaps")
        self._positive("mapping_lrmul")
        if self.style_mixing_prob is not None and not 0 <= self.style_mixing_prob <= 1:
            self._refuse("style_mixing_prob", "a probability in [0, 1], or none")
        if self.dlatent_avg_beta is not None:
            self._below_one("dlatent_avg_beta")


@dataclass(frozen=True)
class DiscriminatorConfig(_FeatureMaps):
    """D. Field names are the static arguments of the builder `D_stylegan2`."""

    section: ClassVar[str] = "D"
    architecture: str = "resnet"  # orig | skip | resnet
    fmap_base: int = 16384
    fmap_decay: float = 1.0
    fmap_min: int = 1
    fmap_max: int = 512
    fmap_explicit: dict[int, int] | None = None
    mbstd_group_size: int = 4  # images per minibatch-stddev group; smaller minibatches use min(group, n); 0, 1: off
    mbstd_num_features: int = 1
    resample_kernel: tuple[int, ...] = (1, 3, 3, 1)
    nonlinearity: str = "lrelu"
    num_fp16_res: int = 0
    conv_clamp: float | None = None

    def _check(self) -> None:
        self._check_network()
        self._at_least(0, "mbstd_group_size")
        self._at_least(1, "mbstd_num_features")


@dataclass(frozen=True)
class LossConfig(Section):
    """Non-saturating logistic loss, path length regularisation of G, R1 of D, both lazy (paper section 3)."""

    section: ClassVar[str] = "loss"
    r1_gamma: float = 10.0  # R1 weight; rule of thumb 0.0002 * resolution^2 / batch; 0: off
    pl_weight: float | None = 2.0  # path length weight; 0: off
    pl_decay: float = 0.01  # of the running mean of path lengths
    pl_minibatch_shrink: int = 2  # the path length minibatch is this much smaller
    G_reg_interval: int | None = 4  # minibatches between path length steps; none: added to the main loss
    D_reg_interval: int | None = 16  # minibatches between R1 steps; none: added to the main loss

    def _check(self) -> None:
        self._normalize(
            pl_weight=self.pl_weight or 0.0,
            G_reg_interval=self.G_reg_interval or None,
            D_reg_interval=self.D_reg_interval or None,
        )
        self._at_least(0, "r1_gamma", "pl_weight")
        self._at_least(1, "pl_minibatch_shrink", "G_reg_interval", "D_reg_interval")
        if not 0 < self.pl_decay <= 1:
            self._refuse("pl_decay", "a number in (0, 1]")


@dataclass(frozen=True)
class OptimizerConfig(Section):
    """Adam for G and D, before the lazy-regularisation correction (`schedule.lazy_adam`)."""

    section: ClassVar[str] = "opt"
    G_lrate: float = 0.002
    D_lrate: float = 0.002
    beta1: float = 0.0
    beta2: float = 0.99
    epsilon: float = 1e-8

    def _check(self) -> None:
        self._positive("G_lrate", "D_lrate", "epsilon")
        self._below_one("beta1", "beta2")


@dataclass(frozen=True)
class ScheduleConfig(Section):
    """How long, in which minibatches, and what changes on the way. `*_steps`: ((kimg, value), ...), from kimg on."""

    section: ClassVar[str] = "schedule"
    total_kimg: float = 25000.0
    batch: int = 32  # images per optimizer step, over all devices
    batch_gpu: int | None = None  # images per device and round; rounds accumulate gradients; None: chosen
    kimg_per_tick: float | None = None  # None: by resolution, 28 at 8x8 to 4 at 1024x1024
    ema_kimg: float = 10.0  # half-life of the moving average Gs
    ema_rampup: float | None = None  # half-life at most this fraction of the images seen so far
    G_lrate_steps: tuple[tuple[float, float], ...] = ()
    D_lrate_steps: tuple[tuple[float, float], ...] = ()
    gamma_steps: tuple[tuple[float, float], ...] = ()

    def _check(self) -> None:
        self._at_least(0, "total_kimg", "ema_kimg")
        self._at_least(1, "batch", "batch_gpu")
        self._positive("kimg_per_tick", "ema_rampup")
        for name in ("G_lrate_steps", "D_lrate_steps", "gamma_steps"):
            steps = getattr(self, name)
            kimgs = [kimg for kimg, _ in steps]
            if any(k < 0 for k in kimgs) or any(a >= b for a, b in itertools.pairwise(kimgs)):
                self._refuse(name, "[[kimg, value], ...] with increasing kimg >= 0")
            if any(v < 0 or (v == 0 and name != "gamma_steps") for _, v in steps):
                self._refuse(name, "positive values")


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
            if len(parts) != 2 or not all(part.isdigit() for part in parts):
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
    skip_first: bool = False  # not at the first tick
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
    tf32: bool = False  # float32 convolutions in TensorFloat-32 on GPUs from Ampere on: faster, 10 bits of mantissa
    data: DataConfig = field(default_factory=DataConfig)
    G: GeneratorConfig = field(default_factory=GeneratorConfig)
    D: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    opt: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    snapshots: SnapshotConfig = field(default_factory=SnapshotConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)

    def _check(self) -> None:
        self._one_of("device", ("auto", "cpu", "gpu"))
        self._one_of("ops", ("auto", "ref", "compiled"))
        self._at_least(1, "num_gpus")
        if not 0 <= self.seed < 2**32:
            self._refuse("seed", "a whole number in [0, 2^32)")
        self._check_batch()

    def _check_batch(self) -> None:
        """Every tower gets the same number of whole rounds, every round whole minibatch-stddev groups."""
        batch, per_gpu, towers = self.schedule.batch, self.schedule.batch_gpu, self.num_gpus
        if batch % towers:
            raise UserError(
                f"schedule.batch: found {batch}, expected a multiple of num_gpus={towers}; "
                f"use {batch - batch % towers or towers} or {batch - batch % towers + towers}"
            )
        if per_gpu is None:
            return
        choices = ", ".join(map(str, self.batch_gpu_choices())) + " (schedule.batch_gpu, --batch-gpu)"
        if (batch // towers) % per_gpu:
            self.schedule._refuse("batch_gpu", f"a divisor of batch/num_gpus={batch}/{towers}", f"use {choices}")
        if not self._fits_mbstd(per_gpu):
            group = f"D.mbstd_group_size={self.D.mbstd_group_size}"
            expected = f"a multiple of {group} or fewer images than that"
            self.schedule._refuse("batch_gpu", expected, f"use {choices}, or another group size")

    def batch_gpu_choices(self) -> list[int]:
        """Every `schedule.batch_gpu` that fits, ascending."""
        per_tower = self.schedule.batch // self.num_gpus
        return [n for n in range(1, per_tower + 1) if per_tower % n == 0 and self._fits_mbstd(n)]

    def _fits_mbstd(self, batch_gpu: int) -> bool:
        """Minibatch stddev uses groups of min(group, n) images (paper: 4), which must divide the n images."""
        group = min(self.D.mbstd_group_size, batch_gpu)
        return group <= 1 or batch_gpu % group == 0


def G_kwargs(config: GeneratorConfig) -> dict[str, Any]:
    """Static arguments of `G_main` that differ from its defaults: a snapshot stores only these, like published ones."""
    return non_default_fields(config)


def D_kwargs(config: DiscriminatorConfig) -> dict[str, Any]:
    """Static arguments of `D_stylegan2` that differ from its defaults."""
    return non_default_fields(config)
