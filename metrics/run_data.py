"""The images that a network was trained on, as far as the options of its run beside the pickle tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dnnlib.submission.options import OPTIONS_FILE, read_options
from dnnlib.util import UserError, is_url

if TYPE_CHECKING:
    from training.dataset import TFRecordDataset


@dataclass(frozen=True)
class RealSet:
    """Which images fakes are compared with.

    data_dir, dataset: the directory of TFRecords; mirror_augment: the training mirrored them; max_images: it used only
    the first so many; validation: those of the data set that are held out from training.
    """

    data_dir: str
    dataset: str
    mirror_augment: bool
    max_images: int | None
    validation: bool = False

    def open(self, resolution: int | None, label_size: int | str) -> TFRecordDataset:
        """The images at a resolution (None: the largest there is) with labels of so many numbers, or "full".

        Raises `UserError` if the data set is not there, or not like this.
        """
        from training.dataset import TFRecordDataset

        return TFRecordDataset(
            Path(self.data_dir) / self.dataset,
            resolution=resolution,
            max_label_size=label_size,
            max_images=None if self.validation else self.max_images,  # which counts training images
            validation=self.validation,
        )


def run_of(network: str) -> Path | None:
    """The run directory that a pickle lies in; None for URLs, and for files elsewhere."""
    folder = Path(network).parent
    return folder if not is_url(network) and (folder / OPTIONS_FILE).is_file() else None


def trained_on(network: str) -> RealSet | None:
    """What the run that a pickle lies in was trained on; None if no options are beside it, or those of another
    program. Raises `UserError` for options that cannot be read."""
    folder = run_of(network)
    data = None if folder is None else read_options(folder).get("data")
    if not isinstance(data, dict) or not isinstance(data.get("dataset"), str):
        return None
    directory, mirror = data.get("data_dir") or "", data.get("mirror_augment", False)
    return RealSet(str(directory), data["dataset"], bool(mirror), data.get("max_images"))


def find_reals(
    network: str, dataset: str | None, data_dir: str | None, mirror: bool | None, validation: bool = False
) -> RealSet:
    """What was asked for, completed by what the network was trained on. Of another data set only that holds what the
    user says about it. Raises `UserError` if no data set is known."""
    trained = trained_on(network)
    if dataset is None and trained is None:
        raise UserError("no data set: give --dataset NAME (in --data-dir DIR), the one that the network was trained on")
    if trained is None or dataset not in (None, trained.dataset):
        trained = RealSet("", dataset, False, None)
    return RealSet(
        trained.data_dir if data_dir is None else data_dir,
        trained.dataset,
        trained.mirror_augment if mirror is None else mirror,
        trained.max_images,
        validation,
    )
