"""The generator that a command draws with, its classes and seeds. Importing this needs no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dnnlib.util import UserError, list_nearest
from training.cli import quiet_tensorflow

if TYPE_CHECKING:
    from dnnlib.tflib.network import Network
    from training.dataset_files import DatasetInfo


def load_generator(network_pkl: str, num_gpus: int = 1) -> Network:
    """Gs of a pickle of (G, D, Gs), in a session for `num_gpus` towers.

    Raises:
        UserError: unreadable, or the file holds something else.
    """
    quiet_tensorflow()
    from dnnlib import tflib
    from dnnlib.tflib import tfutil

    gpus = tfutil.num_gpus()
    if gpus and num_gpus > gpus:
        raise UserError(f"--num-gpus {num_gpus}: this machine has {gpus}")
    tflib.init_tf({} if gpus else {"device_count.CPU": num_gpus})
    content = tflib.pickles.load(network_pkl)
    Gs = content[2] if isinstance(content, tuple) and len(content) == 3 else content  # noqa: N806
    if "synthesis" not in getattr(Gs, "components", {}):
        raise UserError(f"{network_pkl}: expected a pickle of (G, D, Gs) such as network-snapshot-*.pkl")
    return Gs


def class_label(label: str | None, label_size: int, network_pkl: str) -> np.ndarray | None:
    """One-hot label float32 [label_size] of a class given by index or name; None for networks without labels.

    Names are those of the data set that the run beside the pickle was trained on, if it can still be found.

    Raises:
        UserError: a class for a network without labels, no class for one with, an unknown class.
    """
    if label_size == 0:
        if label is not None:
            raise UserError(f"--class {label}: this network was trained without labels; leave the option out")
        return None
    if label is None:
        raise UserError(f"this network draws classes: give --class 0 to {label_size - 1}, or a name")
    if label.isdecimal():
        index = int(label)
    else:
        names = _class_names(network_pkl)
        if label not in names:
            known = list_nearest(label, names) if names else "no names are known for this network"
            raise UserError(f"--class {label}: unknown class; {known}; indices are 0 to {label_size - 1}")
        index = names.index(label)
    if index >= label_size:
        raise UserError(f"--class {label}: expected 0 to {label_size - 1}")
    return np.eye(label_size, dtype=np.float32)[index]


def class_labels(label: str | None, label_size: int, network_pkl: str) -> list[np.ndarray | None]:
    """As `class_label`, of one class or of several with commas between. Raises `UserError`, for a class given twice,
    too."""
    # A name may have a comma in it.
    several = label is not None and label_size > 0 and "," in label and label not in _class_names(network_pkl)
    labels = [class_label(one, label_size, network_pkl) for one in (label.split(",") if several else [label])]
    if several and len({int(one.argmax()) for one in labels}) < len(labels):
        raise UserError(f"--class {label}: expected every class once")
    return labels


def _class_names(network_pkl: str) -> tuple[str, ...]:
    """Class names of the data set, () if they cannot be found."""
    info = _find_data(network_pkl)
    return info.class_names if info is not None else ()


def original_ratio(network_pkl: str) -> float:
    """Width over height that all images had before the data set was made of them by stretching.

    Raises:
        UserError: the data set cannot be found, or its images were not stretched, or not from one ratio.
    """
    from training.dataset_files import STRETCHED_FROM

    info = _find_data(network_pkl)
    if info is None:
        raise UserError(
            f"--original-ratio: the data set of {network_pkl} cannot be found by a run's configuration beside the file"
        )
    size = info.source.get(STRETCHED_FROM)
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)):
        raise UserError(
            "--original-ratio: the images of the data set were not stretched from one ratio (create_from_images "
            "--fit stretch notes it); leave the option out"
        )
    return size[0] / size[1]


def _find_data(network_pkl: str) -> DatasetInfo | None:
    """The data set that the run's configuration, beside the pickle or in the run directory, names; None if anything is
    missing."""
    from training.config_io import load_config
    from training.dataset_files import read_info

    try:
        place = Path(network_pkl)
        data = load_config(place if place.is_dir() else place.parent).data
        return read_info(Path(data.data_dir) / data.dataset)
    except UserError:
        return None


def check_seeds(seeds: list[int], option: str = "--seeds") -> None:
    """Raise `UserError` for seeds that numpy does not take, or one given twice."""
    if max(seeds) >= 2**32:
        raise UserError(f"{option}: found {max(seeds)}, expected numbers below 2^32")
    if len(set(seeds)) != len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise UserError(f"{option}: {twice} is given twice")
