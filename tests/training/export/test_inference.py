"""SavedModel and ONNX give the images of the published network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import run_surgery
from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from tests.surgery_models import draw, from_arrays, official, relative_error
from training.surgery.states import with_options


def test_onnx_from_latents(golden: Any, tmp_path: Path) -> None:
    from training.export.onnx_model import run_onnx, write_onnx

    model, data = official(golden)
    path = tmp_path / "gs.onnx"
    assert write_onnx(model.networks["Gs"], path) < 1e-5
    for psi, key in ((0.7, "out/Gs_images_psi_0.7"), (1.0, "out/Gs_images_psi_none")):
        images = run_onnx(path, {"latents": data["in/latents"], "psi": np.array(psi, np.float32)})
        assert relative_error(images, data[key]) < 1e-4
    one = run_onnx(path, {"latents": data["in/latents"][:1], "psi": np.array(0.7, np.float32)})
    assert one.shape == (1, 3, 32, 32)


def test_saved_model_from_latents_and_labels(golden: Any, tmp_path: Path) -> None:
    from training.export.saved_model import run_saved_model, write_saved_model

    model, data = from_arrays(golden, "sg2_cond_Gskip_Dresnet")
    path = tmp_path / "model"
    (path / "old").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"another one")
    assert write_saved_model(model.networks["G"], path, psi=0.7) < 1e-5
    assert not (path / "old").exists() and list(tmp_path.iterdir()) == [path]
    images = run_saved_model(path, {"latents": data["in/latents"], "labels": data["in/labels"]})
    assert relative_error(images, data["out/images_psi_0.7"]) < 1e-4


def test_graph_from_dlatents_of_a_residual_network(golden: Any) -> None:
    from training.export.inference import open_inference

    model, data = from_arrays(golden, "sg2_uncond_Gresnet_Dskip")
    with open_inference(model.networks["G"], takes="w") as inference:
        images = inference.run({"dlatents": data["in/dlatents_plus"]})
    assert relative_error(images, data["out/synthesis_from_dlatents_plus"]) < 1e-4


def functions_of(kind: str) -> tuple[Any, Any]:
    """What writes files of this kind, and what runs them."""
    from training.export import onnx_model, saved_model

    return {
        "savedmodel": (saved_model.write_saved_model, saved_model.run_saved_model),
        "onnx": (onnx_model.write_onnx, onnx_model.run_onnx),
    }[kind]


def test_layers_that_a_network_does_not_truncate(golden: Any) -> None:
    """What is exported truncates the layers that the network itself does."""
    from training.export.inference import open_inference

    model, data = official(golden)
    plain = model.networks["Gs"]
    state = NetworkState({**plain, "static_kwargs": {**plain["static_kwargs"], "truncation_cutoff": 2}})
    expected = draw(state, data["in/latents"], psi=0.3)
    everywhere = draw(plain, data["in/latents"], psi=0.3)
    assert relative_error(everywhere, expected) > 0.01
    for psi in (0.3, None):
        with open_inference(state, psi=psi) as inference:
            given = {} if psi else {"psi": np.array(0.3, np.float32)}
            assert relative_error(inference.run({"latents": data["in/latents"], **given}), expected) < 1e-4


@pytest.mark.parametrize("kind", ["savedmodel", "onnx"])
def test_trained_in_low_precision(golden: Any, tmp_path: Path, kind: str) -> None:
    """As most published networks are: what is written computes in float32, which every program can."""
    write, run = functions_of(kind)
    model, data = official(golden)
    low = with_options(model.networks["Gs"], num_fp16_res=3)
    assert write(low, tmp_path / "gs") < 1e-5
    images = run(tmp_path / "gs", {"latents": data["in/latents"], "psi": np.array(0.7, np.float32)})
    assert relative_error(images, data["out/Gs_images_psi_0.7"]) < 1e-4


@pytest.mark.parametrize("kind", ["savedmodel", "onnx"])
def test_in_float16(golden: Any, tmp_path: Path, kind: str) -> None:
    """Near the images in float32, but not the same; inputs and images are float32."""
    write, run = functions_of(kind)
    model, data = official(golden)
    path = tmp_path / "model"
    result = CliRunner().invoke(
        run_surgery.cli, ["convert", model.path, str(path), "--format", kind, "--fp16", "--psi", "0.7"]
    )
    assert result.exit_code == 0, result.output
    images = run(path, {"latents": data["in/latents"]})
    error = relative_error(images, data["out/Gs_images_psi_0.7"])
    assert 1e-5 < error < 0.01 and images.dtype == np.float32
    with pytest.raises(UserError, match="psi truncates w"):
        write(model.networks["Gs"], path, takes="w", psi=1.0, fp16=True)


def test_refused(golden: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.export import onnx_model
    from training.export.saved_model import write_saved_model

    state = official(golden)[0].networks["Gs"]
    with pytest.raises(UserError, match="no use for it"):
        onnx_model.write_onnx(state, tmp_path / "x.onnx", takes="w", psi=0.5)
    with pytest.raises(UserError, match="expected z or w"):
        onnx_model.write_onnx(state, tmp_path / "x.onnx", takes="x")
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="photos: exists and is no SavedModel"):
        write_saved_model(state, tmp_path / "photos")
    monkeypatch.setitem(__import__("sys").modules, "tf2onnx", None)
    with pytest.raises(UserError, match="ONNX needs tf2onnx, which is not installed: pip install"):
        onnx_model.write_onnx(state, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


@dataclass
class _Drawn:
    """Stands for an inference whose images are known."""

    images: np.ndarray
    in_float32: np.ndarray | None = None

    def sample(self) -> dict[str, np.ndarray]:
        """One input."""
        return {"scale": np.float32(2)}

    def run(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """The images, by that input."""
        return self.images * values["scale"]


def test_other_programs_are_compared_by_the_same_inputs() -> None:
    from training.export.inference import check_against

    images = np.array([-1.0, 0.25, 5.0])
    plain, half = _Drawn(images), _Drawn(images + 9, in_float32=2 * images)
    for inference, allowed, refused in ((plain, 0.009, 0.011), (half, 0.29, 0.31)):
        off = np.array([0, allowed, 0])
        found = check_against(inference, lambda v, off=off: images * v["scale"] + off, "x")
        assert found == pytest.approx(allowed / 10)  # of the largest value, 10
        for wrong in (refused, -refused, np.nan):
            off = np.array([wrong, 0, 0])
            with pytest.raises(UserError, match="x: its images differ from TensorFlow's by"):
                check_against(inference, lambda v, off=off: images * v["scale"] + off, "x")
    # Dark images are not compared by their small values.
    assert check_against(_Drawn(images / 1000), lambda v: images / 500 + 0.0005, "x") == pytest.approx(0.0005)
