"""A tiny data set and a tiny configuration: training in seconds."""

from pathlib import Path

import numpy as np

from dnnlib.submission.stop import Stopped
from training.config import MetricsConfig, SnapshotConfig, TrainConfig
from training.config_networks import DiscriminatorConfig, GeneratorConfig
from training.config_schedule import ScheduleConfig
from training.dataset_writer import DatasetWriter


def tiny_config() -> TrainConfig:
    """Networks of a few thousand parameters, no metrics."""
    sizes = dict(fmap_base=64, fmap_max=8)
    return TrainConfig(
        seed=7,
        G=GeneratorConfig(latent_size=8, dlatent_size=8, mapping_layers=2, mapping_fmaps=8, **sizes),
        D=DiscriminatorConfig(**sizes),
        schedule=ScheduleConfig(total_kimg=0.064, batch=16, batch_gpu=16, kimg_per_tick=0.032),
        snapshots=SnapshotConfig(grid_size=(4, 2), image_ticks=1),
        metrics=MetricsConfig(names=(), skip_first=False),
    )


def tiny_dataset(path: Path, num_images: int, resolution: int, label_size: int = 0) -> None:
    """A directory of TFRecords with noisy gradients, one-hot labels if any."""
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, [num_images, 3, resolution, resolution]).astype(np.uint8)
    labels = np.eye(max(label_size, 1), dtype=np.float32)
    with DatasetWriter(path, (3, resolution, resolution), label_size=label_size) as writer:
        for index, image in enumerate(images):
            writer.add(image, labels[index % label_size] if label_size else None)


class NaiveEvaluator:
    """Says a different number each time and remembers what it was asked."""

    names = ("naive",)
    interrupted = staticmethod(lambda: False)

    def __init__(self, *values):
        self.values, self.written = iter(values or [9.0, 3.0, 5.0]), []

    def run_all(self, names):
        for name in names:
            if self.interrupted():
                raise Stopped
            yield type(
                "Result", (), {"value": next(self.values), "__str__": lambda self, n=name: f"{n} {self.value}"}
            )()

    def write(self, directory, snapshot, result):
        self.written.append((snapshot, result.value))
