"""The commands as a user types them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import run_surgery
from dnnlib.snapshot import load_state
from tests.surgery_models import assert_equal_states, official
from training.surgery.files import read_model
from training.surgery.states import flat_variables, resolution_of


def surgery(*args: object, code: int = 0) -> Result:
    """Runs a command; the exit code must be `code`."""
    result = CliRunner().invoke(run_surgery.cli, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def fails(text: str, *args: object) -> None:
    """The command ends with one line on stderr that starts with `error: ` and holds `text`, and code 2."""
    lines = surgery(*args, code=2).stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and text in lines[0], lines


@pytest.fixture
def source(golden: Any) -> Path:
    """The published file."""
    return golden.path("official_sg2_uncond.pkl")


def test_grow_and_shrink(source: Path, tmp_path: Path) -> None:
    result = surgery("grow", source, tmp_path / "64.pkl", "--fmaps", 6)
    assert "function kept: images are the old ones upsampled" in result.stdout
    assert "function kept: scores are those of the images downsampled" in result.stdout
    line = next(line for line in result.stdout.splitlines() if "G_synthesis/64x64/Conv0_up/weight" in line)
    assert line.split() == ["G", "G_synthesis/64x64/Conv0_up/weight", "new", "3x3x8x6"]
    assert "copied" in result.stdout.splitlines()[-2]
    surgery("shrink", tmp_path / "64.pkl", tmp_path / "32.pkl")
    model, old = read_model(str(tmp_path / "32.pkl")), read_model(str(source))
    assert [resolution_of(state) for state in model.networks.values()] == [32, 32, 32]
    for variable, value in flat_variables(old.networks["Gs"]).items():
        np.testing.assert_array_equal(flat_variables(model.networks["Gs"])[variable], value)


def test_widen(source: Path, tmp_path: Path) -> None:
    surgery("widen", source, tmp_path / "w.pkl", "--fmaps", "32:12,16:20", "--how", "split")
    values = flat_variables(read_model(str(tmp_path / "w.pkl")).networks["D"])
    assert values["32x32/Conv1_down/weight"].shape == (3, 3, 12, 20)
    surgery("widen", source, tmp_path / "m.pkl", "--fmap-base", 256, "--fmap-max", 40)
    kwargs = read_model(str(tmp_path / "m.pkl")).networks["G"]["static_kwargs"]
    assert kwargs["fmap_base"] == 256 and kwargs["fmap_max"] == 40 and "fmap_explicit" not in kwargs
    fails("did you mean 'XXL'", "widen", source, tmp_path / "x.pkl", "--size", "XX")
    fails("exclude each other", "widen", source, tmp_path / "x.pkl", "--size", "M", "--fmaps", "4:40")
    fails("say what shall be wider", "widen", source, tmp_path / "x.pkl")
    fails("no block of resolution 64", "widen", source, tmp_path / "x.pkl", "--fmaps", "64:9")
    fails("found '32-9'", "widen", source, tmp_path / "x.pkl", "--fmaps", "32-9")
    fails("G and Gs must stay alike", "widen", source, tmp_path / "x.pkl", "--fmap-base", 512, "--networks", "G,D")
    fails("unknown network 'g'", "widen", source, tmp_path / "x.pkl", "--fmap-base", 512, "--networks", "g")


def test_noconst_and_labels(source: Path, tmp_path: Path) -> None:
    surgery("noconst", source, tmp_path / "n.pkl")
    assert "noconst" in load_state(tmp_path / "n.pkl")[2]["static_kwargs"]
    surgery("add-labels", tmp_path / "n.pkl", tmp_path / "l.pkl", "--label-size", 3)
    model = read_model(str(tmp_path / "l.pkl"))
    assert all(state["static_kwargs"]["label_size"] == 3 for state in model.networks.values())


def test_mixing(source: Path, tmp_path: Path) -> None:
    surgery("average", source, source, "--out", tmp_path / "mean.pkl", "--weights", "3,1")
    surgery("interpolate", source, tmp_path / "mean.pkl", tmp_path / "mix.pkl", "--at", 16, "--width", 1)
    result = surgery("copy", tmp_path / "mix.pkl", source, tmp_path / "copy.pkl", "--only", "G_mapping/*")
    assert "G_mapping" not in result.stdout and "kept" in result.stdout
    assert "G_mapping/Dense0/weight" in surgery("copy", source, source, tmp_path / "all.pkl", "--verbose").stdout
    fails("--weights: found 'a'", "average", source, source, "--out", tmp_path / "x.pkl", "--weights", "a,1")


def test_strip(source: Path, tmp_path: Path, golden: Any) -> None:
    surgery("strip", source, tmp_path / "gs.pkl")
    state = load_state(tmp_path / "gs.pkl")
    expected = flat_variables(official(golden)[0].networks["Gs"])
    assert state["name"] == "Gs" and list(flat_variables(state)) == list(expected)
    assert all(np.array_equal(value, expected[name]) for name, value in flat_variables(state).items())
    assert (tmp_path / "gs.pkl").stat().st_size < 0.45 * source.stat().st_size
    fails("has no D, found Gs", "strip", tmp_path / "gs.pkl", tmp_path / "d.pkl", "--keep", "D")


def test_nothing_is_overwritten(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "there.pkl"
    target.write_bytes(b"mine")
    fails("exists already; give another name, or --force", "strip", source, target)
    assert target.read_bytes() == b"mine"
    surgery("strip", source, target, "--force")
    before = target.read_bytes()
    fails("is also what is read", "strip", target, target, "--force")
    fails("does not exist", "strip", source, tmp_path / "no" / "x.pkl")
    assert target.read_bytes() == before
    fails("shrink makes it smaller", "grow", source, tmp_path / "x.pkl", "--resolution", 16)
    fails("grow makes it larger", "shrink", source, tmp_path / "x.pkl", "--resolution", 64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.pkl"]


def test_convert(source: Path, tmp_path: Path) -> None:
    for name, kind in (("a.npz", "npz"), ("a.safetensors", "safetensors"), ("tf.pkl", "tf"), ("ada.pkl", "ada-tf")):
        surgery("convert", source, tmp_path / name, "--format", kind)
    surgery("convert", tmp_path / "a.npz", tmp_path / "again.pkl", "--format", "tf")
    for again, direct in zip(load_state(tmp_path / "again.pkl"), load_state(tmp_path / "tf.pkl"), strict=True):
        assert_equal_states(again, direct)
    assert {state["version"] for state in load_state(tmp_path / "ada.pkl")} == {5}
    (tmp_path / "run").mkdir()
    shutil.copy(source, tmp_path / "run" / "network-snapshot-000012.pkl")
    surgery("convert", tmp_path / "run", tmp_path / "run" / "weights.npz", "--format", "npz")
    for name, state in read_model(str(tmp_path / "run" / "weights.npz")).networks.items():
        assert_equal_states(state, read_model(str(tmp_path / "a.npz")).networks[name])
    assert "network-snapshot-000012.pkl: StyleGAN2 for TensorFlow" in surgery("info", tmp_path / "run").stdout
    fails("a directory without network-snapshot-*.pkl", "info", tmp_path)
    fails("expected a name that ends in .npz", "convert", source, tmp_path / "x.pkl", "--format", "npz")
    fails("the ending says npz, --format says tf", "convert", source, tmp_path / "x.npz", "--format", "tf")
    fails("are for savedmodel and onnx", "convert", source, tmp_path / "x.pkl", "--format", "tf", "--psi", 0.5)
    fails("'tensorflow' is not one of", "convert", source, tmp_path / "x.pkl", "--format", "tensorflow")
    fails("expected networks G, D, Gs", "strip", _pickled(tmp_path, {"a": 1}), tmp_path / "x.pkl")


def _pickled(folder: Path, content: Any) -> Path:
    import pickle

    (folder / "other.pkl").write_bytes(pickle.dumps(content))
    return folder / "other.pkl"
