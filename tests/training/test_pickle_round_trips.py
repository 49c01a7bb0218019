"""Writers and readers of network files over random small configurations: nothing changes on the way."""

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib import tflib
from dnnlib.snapshot import load_state
from dnnlib.tflib import pickles
from dnnlib.tflib.tfutil import tf
from tests.surgery_models import build
from tests.torch_pickles import discriminator, dumps, generator
from training.export.onnx_model import run_onnx, write_onnx
from training.export.published import state_of, to_ada, to_stylegan2
from training.export.saved_model import run_saved_model, write_saved_model
from training.surgery.files import read_model, write_model
from training.surgery.states import Model

# Graphs that are run once or twice; what they compute is compared with what other graphs of the same kind do.
# A graph of two networks takes most of a second to build.
_FEW = settings(max_examples=3, deadline=None, derandomize=True)


@st.composite
def configurations(draw: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a generator and a discriminator that may be trained together."""
    resolution = draw(st.sampled_from([8, 16]))
    sizes = dict(num_channels=draw(st.integers(1, 4)), resolution=resolution, label_size=draw(st.sampled_from([0, 3])))
    if draw(st.booleans()):
        maps = dict(fmap_explicit={2**level: draw(st.integers(1, 5)) for level in range(2, resolution.bit_length())})
    else:
        maps = dict(fmap_base=draw(st.sampled_from([16, 32, 64])), fmap_max=draw(st.sampled_from([4, 8])))
    architectures = st.sampled_from(["orig", "skip", "resnet"])
    G = dict(  # noqa: N806
        latent_size=draw(st.integers(1, 6)), dlatent_size=draw(st.integers(1, 6)),
        mapping_layers=draw(st.integers(1, 3)), mapping_fmaps=draw(st.integers(1, 6)),
        architecture=draw(architectures), use_noise=draw(st.booleans()),
    )  # fmt: skip
    D = dict(architecture=draw(architectures), mbstd_group_size=draw(st.sampled_from([2, 4])))  # noqa: N806
    return sizes | maps | G, sizes | maps | D


def make(name: str, builder: str, options: dict[str, Any]) -> tuple[tflib.Network, dict[str, np.ndarray]]:
    """A network with random variables, and these."""
    net = tflib.Network(name, func_name=builder, **options)
    rng = np.random.RandomState(len(net.vars))
    values = {n: np.asarray(rng.randn(*v.shape.as_list()), np.float32) for n, v in net.vars.items()}
    tflib.set_vars({net.vars[n]: value for n, value in values.items()})
    return net, values


def outputs(G: tflib.Network, D: tflib.Network) -> list[np.ndarray]:  # noqa: N803
    """Images of fixed latents, and scores of fixed images."""
    rng = np.random.RandomState(0)
    labels = rng.rand(4, G.input_shapes[1][1])
    images = G.run(rng.randn(4, G.input_shape[1]), labels, randomize_noise=False, truncation_psi=0.7)
    return [images, D.run(rng.randn(*images.shape), labels)]


def flat(state: Any) -> dict[str, Any]:
    found = dict(state["variables"])
    for part in state["components"].values():
        found |= {f"{part['name']}/{name}": value for name, value in part["variables"]}
    return found


@_FEW
@given(configurations(), st.sampled_from([4, 5]))
def test_tensorflow_files(options: tuple[dict[str, Any], dict[str, Any]], version: int) -> None:
    module, d_name = ("training.networks", "D_main") if version == 5 else ("training.networks_stylegan2", "D_stylegan2")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "net.pkl"
        with tf.Graph().as_default(), tflib.create_session():
            G, g_values = make("G", f"{module}.G_main", options[0])
            D, d_values = make("D", f"{module}.{d_name}", options[1])
            pickles.save((G, D, G), path)
            before = outputs(G, D)
        states = load_state(path)
        for state, kwargs, values in zip(states[:2], options, (g_values, d_values), strict=True):
            assert state["version"] == version and state["static_kwargs"] == kwargs
            assert flat(state).keys() == values.keys()
            for name, value in flat(state).items():
                np.testing.assert_array_equal(value, values[name])
        with tf.Graph().as_default(), tflib.create_session():
            after = outputs(*pickles.load(path)[:2])
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


@_FEW
@given(configurations())
def test_pytorch_files(options: tuple[dict[str, Any], dict[str, Any]]) -> None:
    with tf.Graph().as_default(), tflib.create_session():
        G, g_values = make("G", "training.networks.G_main", options[0])
        D, d_values = make("D", "training.networks.D_main", options[1])
        before = outputs(G, D)
    kwargs = dict(epilogue_kwargs=dict(mbstd_group_size=options[1]["mbstd_group_size"]))
    g, d = generator(g_values), discriminator(d_values, _init_kwargs=kwargs)
    content = dumps(dict(G=g, D=d, G_ema=g))
    for state, values in zip(load_state(io.BytesIO(content))[:2], (g_values, d_values), strict=True):
        assert list(flat(state)) == list(values)
        for name, value in flat(state).items():
            # A bias that PyTorch counts from 1 has been rounded once.
            np.testing.assert_allclose(value, values[name], rtol=0, atol=3e-7 if name.endswith("mod_bias") else 0)
    with tf.Graph().as_default(), tflib.create_session():
        after = outputs(*pickles.load(io.BytesIO(content))[:2])
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def _without_labels(options: tuple[dict[str, Any], dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What StyleGAN2 and StyleGAN2-ADA can both say."""
    maps = dict(fmap_base=48, fmap_max=7)
    G, D = ({k: v for k, v in part.items() if k != "fmap_explicit"} | maps for part in options)  # noqa: N806
    return G | dict(label_size=0), D | dict(label_size=0)


@_FEW
@given(configurations().map(_without_labels))
def test_the_other_tensorflow_family(options: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """From StyleGAN2 to StyleGAN2-ADA and back, through files: the same images and scores, and bit for bit the same
    variables."""
    with tempfile.TemporaryDirectory() as place:
        with tf.Graph().as_default(), tflib.create_session():
            G, g_values = make("G", "G_main", options[0])
            D, d_values = make("D", "D_stylegan2", options[1])
            before = outputs(G, D)
            model = Model("net.pkl", {"G": state_of(G), "D": state_of(D), "Gs": state_of(G)})
        write_model(to_ada(model)[0], f"{place}/ada.pkl")
        states = load_state(f"{place}/ada.pkl")
        assert {state["version"] for state in states} == {5}
        with tf.Graph().as_default(), tflib.create_session():
            after = outputs(*map(build, states[:2]))
        for a, b in zip(before, after, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
        write_model(to_stylegan2(read_model(f"{place}/ada.pkl"))[0], f"{place}/back.pkl")
        for state, values in zip(load_state(f"{place}/back.pkl"), (g_values, d_values, g_values), strict=True):
            assert state["version"] == 4 and list(flat(state)) == list(values)
            for name, value in flat(state).items():
                if name.rpartition("/")[2] != "lod":  # StyleGAN2-ADA has none, and no images depend on it
                    np.testing.assert_array_equal(value, values[name], name)


@settings(_FEW, max_examples=2)
@given(configurations(), st.sampled_from([write_onnx, write_saved_model]))
def test_exports(options: tuple[dict[str, Any], dict[str, Any]], write: Any) -> None:
    """What another program draws is what TensorFlow draws, for networks of any kind."""
    rng = np.random.RandomState(0)
    with tempfile.TemporaryDirectory() as place:
        with tf.Graph().as_default(), tflib.create_session():
            G, _ = make("G", "G_main", options[0])
            values = {"latents": rng.randn(4, G.input_shape[1]).astype(np.float32), "psi": np.full([], 0.7, np.float32)}
            if options[0]["label_size"]:
                values["labels"] = rng.rand(4, options[0]["label_size"]).astype(np.float32)
            expected = G.run(values["latents"], values.get("labels"), randomize_noise=False, truncation_psi=0.7)
            state = state_of(G)
        assert write(state, f"{place}/model") < 1e-3
        run = run_onnx if write is write_onnx else run_saved_model
        images = run(f"{place}/model", values)
    assert np.abs(images - expected).max() < 1e-3 * max(np.abs(expected).max(), 1)
