"""The progress line of a run: one line per tick that a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import format_time


def process_memory_gb() -> float:
    """Resident memory of this process in GiB."""
    return psutil.Process().memory_info().rss / 2**30


def peak_gpu_memory_gb() -> float:
    """Largest peak of allocated memory over all GPUs in GiB; 0 without GPUs."""
    devices = tf.config.list_logical_devices("GPU") if tfutil.num_gpus() else []
    peaks = [tf.config.experimental.get_memory_info(device.name)["peak"] for device in devices]
    return max(peaks, default=0) / 2**30


@dataclass(frozen=True)
class TickReport:
    """What one tick was like.

    nimg, total_nimg: images shown and to show; tick_nimg, tick_sec: images and seconds of this tick; total_sec: of
    the whole run, restarts included; maintenance_sec: between ticks (grids, snapshots, metrics).
    """

    tick: int
    nimg: int
    total_nimg: int
    tick_nimg: int
    tick_sec: float
    total_sec: float
    maintenance_sec: float
    num_images: int

    @property
    def sec_per_kimg(self) -> float:
        """Seconds per thousand images in this tick."""
        return self.tick_sec / max(self.tick_nimg, 1) * 1000

    @property
    def eta_sec(self) -> float:
        """Seconds until the run ends at this tick's rate."""
        return max(self.total_nimg - self.nimg, 0) / 1000 * self.sec_per_kimg

    def scalars(self) -> dict[str, float]:
        """Values for TensorBoard and stats.jsonl under the published tags."""
        return {
            "Progress/tick": self.tick,
            "Progress/kimg": self.nimg / 1000,
            "Progress/epochs": self.nimg / max(self.num_images, 1),
            "Timing/total_sec": self.total_sec,
            "Timing/sec_per_tick": self.tick_sec,
            "Timing/sec_per_kimg": self.sec_per_kimg,
            "Timing/img_per_sec": 1000 / self.sec_per_kimg if self.sec_per_kimg else 0.0,
            "Timing/maintenance_sec": self.maintenance_sec,
            "Timing/total_hours": self.total_sec / 3600,
            "Timing/total_days": self.total_sec / 86400,
            "Resources/cpu_mem_gb": process_memory_gb(),
            "Resources/peak_gpu_mem_gb": peak_gpu_memory_gb(),
        }

    def line(self, extra: str = "") -> str:
        """The printed line."""
        values = self.scalars()
        gpu = f"  gpumem {values['Resources/peak_gpu_mem_gb']:.1f}G" if values["Resources/peak_gpu_mem_gb"] else ""
        return (
            f"tick {self.tick:<4d} kimg {self.nimg / 1000:<8.1f} of {self.total_nimg / 1000:<8g}"
            f" img/s {values['Timing/img_per_sec']:<7.1f} sec/tick {self.tick_sec:<7.1f}"
            f" sec/kimg {self.sec_per_kimg:<7.2f} maintenance {self.maintenance_sec:<6.1f}"
            f" time {format_time(self.total_sec):<12} ETA {format_time(self.eta_sec):<12}"
            f" mem {values['Resources/cpu_mem_gb']:.1f}G{gpu}{extra}"
        )


def summary(means: Mapping[str, float]) -> str:
    """End of the printed line: what tells whether training is well. means: of a tick, by name."""
    shown = (
        ("D(real)", "Loss/scores/real", ".2f"),
        ("D(fake)", "Loss/scores/fake", ".2f"),
        ("r_t", "Loss/signs/real", ".2f"),
        ("D reg", "Loss/D/reg", ".3g"),
        ("|gG|", "Gradients/G_main", ".3g"),
        ("|gD|", "Gradients/D_main", ".3g"),
    )
    text = "".join(f"  {label} {means[tag]:{form}}" for label, tag, form in shown if tag in means)
    rates = [means[f"Train{name}/learning_rate"] for name in ("G", "D") if f"Train{name}/learning_rate" in means]
    text += f"  lr {' '.join(f'{rate:.3g}' for rate in rates)}" if rates else ""
    skipped = {name: int(means.get(f"Train{name}/skipped_steps", 0)) for name in ("G", "D")}
    return text + (f"  skipped non-finite steps {skipped}" if any(skipped.values()) else "")
