"""A generator as TensorFlow SavedModel: a folder that TensorFlow 1 and 2, and TensorFlow Serving, load."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.tflib.tfutil import create_session, tf
from dnnlib.util import UserError
from training.export.inference import check_against, open_inference
from training.unfinished import make_temp_beside


def write_saved_model(
    state: NetworkState, path: os.PathLike | str, takes: str = "z", psi: float | None = None, fp16: bool = False
) -> float:
    """Writes a SavedModel with signature `serving_default` (names: `training.export.inference.Inference`).

    The folder appears complete or not at all; a SavedModel that is there already is replaced. Returns the largest
    relative difference of its images, loaded again, from the network's. Raises `UserError` if that exceeds 1e-3 (3e-2
    with `fp16`), or if anything but a SavedModel is there.
    """
    target = Path(path)
    if target.exists() and not (target / "saved_model.pb").exists():
        raise UserError(f"{path}: exists and is no SavedModel; give another name")
    temp = make_temp_beside(target)
    try:
        with open_inference(state, takes, psi, fp16) as inference:
            signature = tf.saved_model.predict_signature_def(inference.inputs, {"images": inference.images})
            builder = tf.saved_model.Builder(str(temp / "model"))
            builder.add_meta_graph_and_variables(
                inference.session, [tf.saved_model.tag_constants.SERVING], {"serving_default": signature}
            )
            builder.save()
            worst = check_against(inference, lambda values: run_saved_model(temp / "model", values), str(path))
        _replace(temp / "model", target, temp / "old")
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return worst


def _replace(new: Path, target: Path, aside: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rename(target, aside)
    os.rename(new, target)


def run_saved_model(path: os.PathLike | str, values: dict[str, np.ndarray]) -> np.ndarray:
    """Images [N, C, H, W] of a SavedModel's signature `serving_default`, in a session of its own."""
    with tf.Graph().as_default(), create_session() as session:
        meta = tf.saved_model.load(session, [tf.saved_model.tag_constants.SERVING], str(path))
        signature = meta.signature_def["serving_default"]
        feeds = {signature.inputs[name].name: value for name, value in values.items()}
        return session.run(signature.outputs["images"].name, feeds)
