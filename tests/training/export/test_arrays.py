"""Plain files of arrays: everything comes back, and nothing else is taken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnnlib.snapshot import load_state
from dnnlib.snapshot.writer import save_states
from dnnlib.util import UserError
from tests.surgery_models import assert_equal_states, official
from training.export.arrays import read_npz, read_safetensors, write_npz, write_safetensors
from training.export.published import as_published
from training.fmaps import Fmaps
from training.surgery.files import read_model, write_model
from training.surgery.labels import add_labels
from training.surgery.resize import resize
from training.surgery.states import Model
from training.surgery.widen import widen

FORMATS = [(".npz", write_npz, read_npz), (".safetensors", write_safetensors, read_safetensors)]


@pytest.mark.parametrize("name", ["sg2_uncond", "ada_uncond"])
@pytest.mark.parametrize(("suffix", "write", "read"), FORMATS)
def test_round_trip(golden: Any, tmp_path: Path, name: str, suffix: str, write: Any, read: Any) -> None:
    model, _ = official(golden, name)
    write(model.networks, tmp_path / f"net{suffix}")
    networks = read(tmp_path / f"net{suffix}")
    assert list(networks) == ["G", "D", "Gs"]
    for key, state in networks.items():
        assert_equal_states(state, model.networks[key])
    write_model(read_model(str(tmp_path / f"net{suffix}")), tmp_path / "net.pkl")
    for state, old in zip(load_state(tmp_path / "net.pkl"), model.networks.values(), strict=True):
        assert_equal_states(state, as_published(old))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([8, 16, 32, 64]),
    st.lists(st.integers(32, 40), min_size=5, max_size=5),
    st.integers(0, 3),
    st.sampled_from(FORMATS),
)
def test_any_architecture(
    golden: Any, tmp_path: Path, resolution: int, counts: list[int], labels: int, format_: Any
) -> None:
    suffix, write, read = format_
    model, _ = resize(official(golden)[0], resolution)
    model, _ = widen(model, Fmaps(explicit=dict(zip((4, 8, 16, 32, 64), counts, strict=True))))
    if labels:
        model, _ = add_labels(model, labels)
    write(model.networks, tmp_path / f"net{suffix}")
    save_states(tuple(model.networks.values()), tmp_path / "net.pkl")
    for pair in zip(read(tmp_path / f"net{suffix}").values(), load_state(tmp_path / "net.pkl"), strict=True):
        for state, old in zip(pair, 2 * [model.networks[pair[0]["name"]]], strict=True):
            assert_equal_states(state, old)


def _metadata(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _replace(arrays: dict[str, Any], old: str, new: str) -> None:
    arrays["metadata_json"] = np.array(str(arrays["metadata_json"]).replace(old, new))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d.pop("Gs/lod"), "KeyError: 'Gs/lod'"),
        (lambda d: d.update(more=np.zeros(2)), "arrays that no network has: more"),
        (lambda d: d.update({"Gs/lod": np.zeros([], int)}), "expected an array of floats"),
        (lambda d: d.update(metadata_json=np.array("{}")), "no networks that `convert` wrote"),
        (lambda d: d.update(metadata_json=np.array("[" * 100000)), "no networks that `convert` wrote"),
        (lambda d: d.pop("metadata_json"), "no networks that `convert` wrote"),
        (lambda d: _replace(d, '"version": 1', '"version": 7'), "version 7"),
        (lambda d: _replace(d, "Dense0/weight", "../x"), "../x"),
    ],
)  # fmt: skip
def test_other_content(golden: Any, tmp_path: Path, change: Any, text: str) -> None:
    model, _ = official(golden)
    write_npz({"Gs": model.networks["Gs"]}, tmp_path / "net.npz")
    arrays = _metadata(tmp_path / "net.npz")
    change(arrays)
    np.savez(tmp_path / "net.npz", **arrays)
    with pytest.raises(UserError) as caught:
        read_npz(tmp_path / "net.npz")
    assert text in str(caught.value) and str(caught.value).startswith(f"{tmp_path / 'net.npz'}: ")


def test_damaged_files(golden: Any, tmp_path: Path) -> None:
    model, _ = official(golden)
    for suffix, write, read in FORMATS:
        path = tmp_path / f"net{suffix}"
        write({"D": model.networks["D"]}, path)
        data = path.read_bytes()
        for cut in (0, 7, len(data) // 2, len(data) - 3):
            path.write_bytes(data[:cut])
            with pytest.raises(UserError, match="not readable as"):
                read(path)
    with pytest.raises(UserError, match="not readable"):
        read_npz(tmp_path / "missing.npz")
    np.savez(tmp_path / "objects.npz", metadata_json=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="not readable"):  # objects would be unpickled
        read_npz(tmp_path / "objects.npz")
    safetensors.numpy.save_file({"x": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no networks that `convert` wrote"):
        read_safetensors(tmp_path / "other.safetensors")


def test_description_is_json(golden: Any, tmp_path: Path) -> None:
    model, _ = official(golden)
    write_safetensors(Model("", {"Gs": model.networks["Gs"]}).networks, tmp_path / "net.safetensors")
    with safetensors.safe_open(tmp_path / "net.safetensors", "numpy") as file:
        described = json.loads(file.metadata()["networks"])
    assert described["networks"]["Gs"]["static_kwargs"]["resolution"] == 32
    assert "build_module_src" not in described["networks"]["Gs"]
