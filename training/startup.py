"""What a run needs before its first step: its data, a session, and the state to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.submission import run_dir
from dnnlib.tflib import tfutil
from dnnlib.tflib.ops import set_default_impl
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training.base_shape import shape_kwargs
from training.config import TrainConfig
from training.dataset import TFRecordDataset
from training.state import read_newest_state, read_state


def open_dataset(config: TrainConfig) -> TFRecordDataset:
    """The data set of a configuration. Raises `UserError` if it is missing, empty, or of a shape no network draws."""
    data = config.data
    if not data.dataset:
        raise UserError("no data set given: use --dataset NAME (and --data-dir), or --set data.dataset=NAME")
    dataset = TFRecordDataset(
        Path(data.data_dir) / data.dataset,
        resolution=data.resolution,
        max_label_size=data.max_label_size,
        max_images=data.max_images,
        mirror_augment=data.mirror_augment,
        seed=config.seed,
    )
    network_shape(config, dataset.shape)
    return dataset


def check_same_data(path: Path, meta: dict[str, Any], dataset: TFRecordDataset) -> None:
    """Raises `UserError` unless the training state at `path`, whose description is `meta`, belongs to this data set."""
    if meta.get("data_hash") != dataset.content_hash:
        raise UserError(
            f"{path}: was trained on other data than {dataset.path} holds now; "
            "continue with the same data, or start a new run with --init-from and a snapshot"
        )


def network_shape(config: TrainConfig, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Static arguments num_channels, resolution and, unless it is 4x4, base_shape for images of shape (C, H, W).

    Raises `UserError` if no network draws such images, or not with the configured `data.base_shape`.
    """
    channels, height, width = shape
    return {"num_channels": channels, **shape_kwargs(height, width, config.data.base_shape)}


def open_session(config: TrainConfig) -> tf.Session:
    """Session on the current graph for a configuration's devices. Raises `UserError` if they are not there.

    `deterministic` stays for the process, as TensorFlow knows no way back: graphs then need a seed.
    """
    if config.ops != "auto":  # auto leaves the choice to the environment variable SG2_OPS
        set_default_impl(config.ops)
    if config.device == "cpu" and tfutil.num_gpus():
        tfutil.hide_gpus()
    if config.device == "gpu" and not tfutil.num_gpus():
        raise UserError("device=gpu: TensorFlow sees no GPU here; python -m dnnlib.doctor says why")
    device_count = {} if tfutil.num_gpus() else {"device_count.CPU": config.num_gpus}
    if tfutil.num_gpus() and config.num_gpus > tfutil.num_gpus():
        raise UserError(f"--num-gpus {config.num_gpus}: this machine has {tfutil.num_gpus()}")
    if config.deterministic:
        tf.compat.v2.config.experimental.enable_op_determinism()
    tf.config.experimental.enable_tensor_float_32_execution(config.tf32)  # tfutil turned it off
    tf.set_random_seed(config.seed)
    return tfutil.create_session(device_count)


StateFile = tuple[Path, dict[str, Any], dict[str, np.ndarray]]  # path, meta, variables by name


def find_state(resume: str | Path, result_dir: str | Path) -> tuple[Path, StateFile]:
    """(run directory, state) that `--resume` means; damaged newest states are passed over with a warning."""
    path = Path(resume)
    if path.is_file():
        return path.parent, (path, *read_state(path))
    directory = run_dir.find_run_dir(resume, result_dir, having="training-state-*.npz")
    state, meta, values, warnings = read_newest_state(directory)
    for warning in warnings:
        print(f"warning: {warning}")
    return directory, (state, meta, values)
