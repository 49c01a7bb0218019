"""Generators that map rectified latents: every command keeps their function, or says in one line that it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import run_surgery
from dnnlib.snapshot import NetworkState, load_state
from dnnlib.snapshot.writer import save_states
from dnnlib.tflib import pickles
from dnnlib.util import UserError
from tests.surgery_models import draw, official, relative_error, upsampled
from training.export.published import to_ada, to_stylegan2
from training.fmaps import Fmaps
from training.surgery.average import average, interpolate
from training.surgery.copy import copy
from training.surgery.labels import add_labels
from training.surgery.mean_w import recompute_mean_w
from training.surgery.noconst import to_noconst
from training.surgery.resize import resize
from training.surgery.states import Model, flat_variables, is_generator, with_options
from training.surgery.widen import widen

DOUBLED = Fmaps(explicit={4: 64, 8: 64, 16: 32, 32: 16})


def rectified(golden: Any) -> tuple[Model, np.ndarray, np.ndarray]:
    """(the published model with rectified latents, latents, its images of the rectified ones, drawn without it)."""
    model, data = official(golden)
    z = data["in/latents"]
    expected = draw(model.networks["Gs"], np.maximum(z, 0))
    assert relative_error(draw(model.networks["Gs"], z), expected) > 0.01

    def change(name: str, state: NetworkState) -> NetworkState:
        return with_options(state, rectify_latents=True) if is_generator(state) else state

    return model.map(change), z, expected


def test_commands_that_keep_the_function(golden: Any, session: Any) -> None:
    model, z, expected = rectified(golden)
    assert relative_error(draw(model.networks["Gs"], z), expected) < 1e-5
    wide, _ = widen(model, DOUBLED, dlatent_size=40, mapping_fmaps=36)
    assert relative_error(draw(wide.networks["Gs"], z), expected) < 1e-5
    labelled, _ = add_labels(model, 3)
    assert relative_error(draw(labelled.networks["Gs"], z, np.eye(3)[np.arange(len(z)) % 3]), expected) < 1e-5
    grown, _ = resize(model, 64)
    assert relative_error(draw(grown.networks["Gs"], z), upsampled(expected)) < 1e-5
    without, _ = to_noconst(model)
    assert relative_error(draw(without.networks["Gs"], z), expected) < 1e-4
    mixed, _ = average([model, model])
    assert relative_error(draw(mixed.networks["Gs"], z), expected) < 1e-5


def test_mean_of_w_is_that_of_rectified_latents(golden: Any) -> None:
    model, *_ = rectified(golden)
    plain, _ = official(golden)
    means = [recompute_mean_w(m, 500)[0].networks["Gs"] for m in (model, plain)]
    values = [flat_variables(state)["dlatent_avg"] for state in means]
    assert relative_error(values[0], values[1]) > 0.01


def test_mixing_with_one_that_is_not(golden: Any) -> None:
    model, *_ = rectified(golden)
    plain, _ = official(golden)
    for mix in (lambda: average([model, plain]), lambda: interpolate(plain, model, 16)):
        with pytest.raises(UserError, match="G has rectify_latents (True|False), that in .* has (True|False)"):
            mix()
    _, report = copy(model, plain)
    assert "G: rectify_latents stays False; it was True where weights come from: z gives another w" in report.notes


def test_formats(golden: Any, session: Any, tmp_path: Path) -> None:
    """StyleGAN2-ADA cannot say it; a pickle of our own and arrays hold it, with a note; exports contain it."""
    model, z, expected = rectified(golden)
    save_states(tuple(model.networks.values()), tmp_path / "net.pkl")

    def convert(name: str, kind: str, *more: str) -> Any:
        words = ["convert", str(tmp_path / "net.pkl"), str(tmp_path / name), "--format", kind, *more]
        return CliRunner().invoke(run_surgery.cli, words)

    result = convert("ada.pkl", "ada-tf")
    assert result.exit_code == 2 and result.output.count("\n") == 1 and not (tmp_path / "ada.pkl").exists()
    assert "G has rectify_latents, which StyleGAN2-ADA does not know" in result.output
    result = convert("tf.pkl", "tf")
    assert result.exit_code == 0 and "Gs: other programs do not know rectify_latents" in result.output
    assert "rectify_latents" in load_state(tmp_path / "tf.pkl")[2]["notes"][0]
    images = pickles.load(tmp_path / "tf.pkl")[2].run(z, None, truncation_psi=0.7, randomize_noise=False)
    assert relative_error(images, expected) < 1e-5
    assert convert("net.npz", "npz").exit_code == 0
    onnxruntime = pytest.importorskip("onnxruntime")
    result = convert("net.onnx", "onnx", "--psi", "0.7")
    assert result.exit_code == 0, result.output
    run = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"]).run
    assert relative_error(run(None, {"latents": z.astype(np.float32)})[0], expected) < 1e-3


def test_conversions_of_models(golden: Any) -> None:
    model, *_ = rectified(golden)
    with pytest.raises(UserError, match="rectify_latents, which StyleGAN2-ADA does not know"):
        to_ada(model)
    assert to_stylegan2(model)[0].networks["G"]["static_kwargs"]["rectify_latents"] is True
