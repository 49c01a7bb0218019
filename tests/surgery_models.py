"""What tests of surgery share: models of golden data, and what they draw and score."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.signal import upfirdn

from dnnlib.snapshot import NetworkState
from dnnlib.snapshot.writer import dump_states
from training.surgery.files import read_model
from training.surgery.states import Model, flat_variables, with_variables

_BUILDERS = {
    "G": "G_main",
    "G_synthesis": "G_synthesis_stylegan2",
    "G_mapping": "G_mapping",
    "D": "D_stylegan2",
}


def official(golden: Any, name: str = "sg2_uncond") -> tuple[Model, dict[str, np.ndarray]]:
    """(the published model, what its networks give)."""
    return read_model(str(golden.path(f"official_{name}.pkl"))), golden(f"official_{name}_expected.npz")


def from_arrays(golden: Any, name: str) -> tuple[Model, dict[str, np.ndarray]]:
    """(G and D of a golden file of arrays, what they give)."""
    data = golden(f"{name}.npz")
    options = json.loads(str(data["static_kwargs_json"]))
    networks = {}
    for role in ("G", "D"):
        prefix = f"vars/{role}/"
        values = {key.removeprefix(prefix): value for key, value in data.items() if key.startswith(prefix)}
        parts = {"synthesis": "G_synthesis", "mapping": "G_mapping"} if role == "G" else {}
        components = {key: _state(part, options[role]) for key, part in parts.items()}
        if components:
            components["mapping"]["static_kwargs"]["dlatent_broadcast"] = 8
        networks[role] = with_variables(_state(role, options[role], components), values)
    return Model(name, networks), data


def _state(name: str, options: dict[str, Any], components: dict[str, Any] | None = None) -> NetworkState:
    return NetworkState(
        version=4,
        name=name,
        static_kwargs=dict(options),
        components=components or {},
        build_module_src="",
        build_func_name=_BUILDERS[name],
        variables=[],
    )


def build(state: NetworkState) -> Any:
    """The network of a state, in the default graph; its variables are those of a new one, in number and order."""
    from dnnlib.tflib import pickles

    data = io.BytesIO()
    dump_states(state, data)
    data.seek(0)
    net = pickles.load(data)
    assert list(net.vars) == list(flat_variables(state))
    return net


@contextlib.contextmanager
def _graph_of_its_own() -> Iterator[None]:
    """TensorFlow copies all of a graph whenever there is something new in it: networks in one graph cost ever more."""
    from dnnlib.tflib import tfutil

    with tfutil.tf.Graph().as_default(), tfutil.create_session():
        yield


def draw(state: NetworkState, z: np.ndarray, labels: np.ndarray | None = None, psi: float | None = 0.7) -> np.ndarray:
    """Images with stored noise."""
    with _graph_of_its_own():
        return build(state).run(z, labels, truncation_psi=psi, randomize_noise=False)


def score(state: NetworkState, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """Scores of images."""
    with _graph_of_its_own():
        return build(state).run(images, labels)


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference relative to the largest value; shapes must agree."""
    assert actual.shape == expected.shape
    return float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))


def upsampled(images: np.ndarray) -> np.ndarray:
    """Twice the size with the filter [1, 3, 3, 1], by SciPy."""
    for axis in (2, 3):
        size = images.shape[axis]
        images = np.take(upfirdn([0.25, 0.75, 0.75, 0.25], images, up=2, axis=axis), range(1, 2 * size + 1), axis)
    return images


def downsampled(images: np.ndarray) -> np.ndarray:
    """Half the size with the filter [1, 3, 3, 1], by SciPy."""
    for axis in (2, 3):
        size = images.shape[axis]
        filtered = upfirdn(np.array([1, 3, 3, 1]) / 8, images, axis=axis)
        images = np.take(filtered, range(2, size + 2, 2), axis)
    return images


def orig_discriminator(model: Model) -> NetworkState:
    """D of architecture orig, made of a residual one."""
    from training.surgery.states import with_options

    state = with_options(model.networks["D"], architecture="orig")
    return with_variables(state, {k: v for k, v in flat_variables(state).items() if "Skip" not in k})


def assert_equal_states(a: NetworkState, b: NetworkState) -> None:
    """Bit for bit, the order of variables included; source code apart."""
    assert [n for n, _ in a["variables"]] == [n for n, _ in b["variables"]]
    for (name, x), (_, y) in zip(a["variables"], b["variables"], strict=True):
        assert np.shape(x) == np.shape(y) and np.asarray(x).tobytes() == np.asarray(y).tobytes(), name
    keys = set(a) - {"variables", "components", "build_module_src"}
    assert keys == set(b) - {"variables", "components", "build_module_src"}
    assert all(a[key] == b[key] for key in keys)
    assert list(a["components"]) == list(b["components"])
    for key, component in a["components"].items():
        assert_equal_states(component, b["components"][key])
