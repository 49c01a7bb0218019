"""Which images of a data set a metric compares fakes with."""

from __future__ import annotations

from pathlib import Path

from metrics.inputs import Dataset
from metrics.registry import MetricSpec
from training.dataset import TFRecordDataset, read_info


class RealSets:
    """The images that a network was trained on, and all images of their directory.

    dataset: the former. Metrics named `_full` look at the latter, whatever part of them the training used
    (`data.max_images`), so that networks trained on parts of different sizes compare; the others at what it used.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.trained_on = dataset
        self._all: Dataset | None = None

    def of(self, spec: MetricSpec) -> Dataset:
        """The images that the metric looks at, or their first. Raises `UserError` if they cannot be opened."""
        if not spec.full:
            return self.trained_on
        if self._all is None:
            self._all = _without_limit(self.trained_on)
        return self._all

    def count(self, spec: MetricSpec) -> int:
        """How many of them the metric looks at."""
        available = self.of(spec).num_images
        return available if spec.num_real is None else min(spec.num_real, available)


def filter_of(dataset: Dataset) -> str | None:
    """By which filter the images were resized when the data set was made, such as "lanczos", for records: it changes
    distances more than many models differ. None if they were not, or nobody knows."""
    info = read_info(Path(dataset.path)) if isinstance(dataset, TFRecordDataset) else None
    if info is None or info.source.get("fit", "") is None:  # kept at their size
        return None
    name = info.source.get("filter")
    return name if isinstance(name, str) else None


def _without_limit(dataset: Dataset) -> Dataset:
    if not isinstance(dataset, TFRecordDataset):
        return dataset
    options = {"max_label_size": dataset.label_size, "validation": dataset.validation}
    everything = TFRecordDataset(dataset.path, dataset.resolution, **options)
    # The same object where there is nothing more, so that its hash is not computed twice.
    return everything if everything.num_images > dataset.num_images else dataset
