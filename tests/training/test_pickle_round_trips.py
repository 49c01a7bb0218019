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
from tests.torch_pickles import discriminator, dumps, generator

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
