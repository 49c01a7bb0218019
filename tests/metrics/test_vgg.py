"""VGG16 and LPIPS with few channels and random weights, against numpy in float64 written from the papers."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

import metrics.vgg
import metrics.vgg_network
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.features import WeightsUnavailable, load_feature_network
from metrics.fetch import default_source
from metrics.vgg import Vgg16, Vgg16Lpips
from metrics.vgg_network import conv_shapes
from metrics.weights import LPIPS_LINEAR, WeightSource
from tests.metrics.weight_writers import write_network, write_torch

STAGES = ((4, 4), (6, 6), (5, 5, 5), (7, 7, 7), (8, 8, 8))
CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # torchvision: convolutions among ReLUs and pools
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def test_shapes_of_the_published_network():
    shapes = conv_shapes()
    assert list(shapes) == [f"features.{index}" for index in CONVS]
    assert sum(np.prod(shape) + shape[-1] for shape in shapes.values()) == 14714688
    assert Vgg16.num_features == 4096


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(metrics.vgg_network, "STAGES", STAGES)
    monkeypatch.setattr(metrics.vgg, "STAGES", STAGES)
    monkeypatch.setattr(metrics.vgg, "NUM_FEATURES", 10)


@pytest.fixture(scope="module")
def state():
    """torchvision's names, [out, in, h, w] and [out, in]."""
    rng, state, inner = np.random.RandomState(3), {}, 3
    for index, out in zip(CONVS, [c for stage in STAGES for c in stage], strict=True):
        state[f"features.{index}.weight"] = rng.randn(out, inner, 3, 3) * np.sqrt(2 / (9 * inner))
        state[f"features.{index}.bias"] = rng.randn(out) * 0.1
        inner = out
    for index, shape in ((0, (10, 8 * 49)), (3, (10, 10)), (6, (4, 10))):
        state[f"classifier.{index}.weight"] = rng.randn(*shape) * np.sqrt(2 / shape[1])
        state[f"classifier.{index}.bias"] = rng.randn(shape[0]) * 0.1
    return {name: value.astype(np.float32) for name, value in state.items()}


@pytest.fixture(scope="module")
def linear():
    rng = np.random.RandomState(4)
    return {
        f"lin{i}.model.1.weight": rng.uniform(0, 1, (1, stage[-1], 1, 1)).astype(np.float32)
        for i, stage in enumerate(STAGES)
    }


@pytest.fixture
def images():
    return np.random.RandomState(5).randint(0, 256, (2, 3, 40, 52)).astype(np.float32)


def activations(image, state):
    """Outputs [C, H, W] of the last ReLU of every stage, of one image [3, H, W] in 0..255."""
    x, indices = (image / 255.0 - MEAN[:, None, None]) / DEVIATION[:, None, None], iter(CONVS)
    for stage in STAGES:
        for _ in stage:
            index = next(indices)
            weight, bias = (state[f"features.{index}.{part}"].astype(np.float64) for part in ("weight", "bias"))
            padded = np.pad(x, [(0, 0), (1, 1), (1, 1)])
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
            x = np.maximum(np.einsum("chwij,ocij->ohw", windows, weight) + bias[:, None, None], 0)
        yield x
        height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
        x = x[:, :height, :width].reshape(len(x), height // 2, 2, width // 2, 2).max(axis=(2, 4))


def lpips(a, b, state, linear):
    """Equation 1 of the paper."""
    total = 0.0
    for x, y, weight in zip(activations(a, state), activations(b, state), linear.values(), strict=True):
        x, y = (z / (np.sqrt((z**2).sum(axis=0)) + 1e-10) for z in (x, y))
        total += ((x - y) ** 2 * weight.astype(np.float64).reshape(-1, 1, 1)).sum(axis=0).mean()
    return total


def source(path):
    return WeightSource(str(path))


def write_together(path, state, linear):
    """The state dict of an LPIPS module."""
    slices = {0: 1, 2: 1, 5: 2, 7: 2, 10: 3, 12: 3, 14: 3, 17: 4, 19: 4, 21: 4, 24: 5, 26: 5, 28: 5}
    convs = {k: v for k, v in state.items() if k.startswith("features")}
    renamed = {f"net.slice{slices[int(k.split('.')[1])]}.{k.removeprefix('features.')}": v for k, v in convs.items()}
    scaling = {f"scaling_layer.{k}": np.ones((1, 3, 1, 1), np.float32) for k in ("shift", "scale")}
    return write_torch(path, scaling | renamed | linear)


def write_pickle(path, state, linear):
    """A network pickle with names that say nothing, TensorFlow's layout, and constants in front."""
    variables = {"shift": np.ones((1, 3, 1, 1), np.float32)}
    for name, value in state.items():
        if name.startswith("features"):
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
            variables["net/" + name.replace(".", "_").replace("_weight", "/w").replace("_bias", "/bias")] = value
    variables |= {f"net/q{i}/w": value.transpose(2, 3, 1, 0) for i, value in enumerate(linear.values())}
    return write_network(path, {k: np.ascontiguousarray(v) for k, v in variables.items()})


def unwanted():
    raise AssertionError("the file has linear weights of its own")


@pytest.mark.parametrize("form", ["two files", "two containers", "one state dict", "network pickle"])
def test_squared_distance_of_embeddings_is_lpips(session, small, tmp_path, state, linear, images, form):
    a, b = tmp_path / "a", tmp_path / "b"
    if form == "two files":
        network = Vgg16Lpips(source(write_torch(a, state)), lambda: source(write_torch(b, linear)))
    elif form == "two containers":
        save_file(state, a)
        with open(b, "wb") as file:
            np.savez(file, **linear)
        network = load_feature_network("vgg16_lpips", {"vgg16": source(a), LPIPS_LINEAR: source(b)})
    elif form == "one state dict":
        network = Vgg16Lpips(source(write_together(a, state, linear)), unwanted)
    else:
        network = load_feature_network("vgg16_lpips", {"vgg16_lpips": source(write_pickle(a, state, linear))})
    embedding = session.run(network.perceptual(tf.constant(images)))
    assert embedding.shape == (2, network.num_embedding(40, 52)) and embedding.dtype == np.float32
    found = np.sum(np.square(embedding[0].astype(np.float64) - embedding[1]))
    expected = lpips(*images, state, linear)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert expected > 0.05 and not tf.global_variables()


def test_black_images_have_no_distance_and_no_nan(session, small, tmp_path, state, linear):
    zero = {k: v * 0 for k, v in state.items()}  # no activation: length 0
    network = Vgg16Lpips(source(write_torch(tmp_path / "a", zero)), lambda: source(write_torch(tmp_path / "b", linear)))
    embedding = session.run(network.perceptual(tf.zeros([1, 3, 16, 16])))
    assert embedding.shape[1] == network.num_embedding(16, 16) and not embedding.any()


@pytest.mark.parametrize("form", ["state dict", "network pickle"])
def test_features(session, small, tmp_path, state, form):
    images = np.random.RandomState(6).randint(0, 256, (2, 3, 224, 224)).astype(np.float32)
    path = tmp_path / "a"
    if form == "state dict":
        write_torch(path, state)
    else:  # square matrices stand as the others do
        write_network(path, {name.replace(".", "/"): value for name, value in state.items()})
    network = load_feature_network("vgg16", {"vgg16": source(path)})
    found = session.run(network.features(tf.constant(images)))
    for image, row in zip(images, found, strict=True):
        *_, x = activations(image, state)
        x = x.reshape(8, 7, 2, 7, 2).max(axis=(2, 4)).reshape(-1)  # channels first
        for index in (0, 3):
            x = np.maximum(state[f"classifier.{index}.weight"] @ x + state[f"classifier.{index}.bias"], 0)
        np.testing.assert_allclose(row, x, rtol=1e-4, atol=1e-5)
        assert x.std() > 0.1


def test_resize_of_features(session, small, tmp_path, state):
    """Corners at corners: every second pixel is one of the old ones, those between are means with the next one."""
    network = Vgg16(source(write_torch(tmp_path / "a", state)))
    small_images = np.random.RandomState(7).randint(0, 256, (1, 3, 112, 112)).astype(np.float32)
    images = np.empty((1, 3, 224, 224), np.float32)
    padded = np.pad(small_images, [(0, 0), (0, 0), (0, 1), (0, 1)], mode="edge")
    here, right, below, across = (padded[:, :, y : y + 112, x : x + 112] for y in (0, 1) for x in (0, 1))
    images[:, :, ::2, ::2], images[:, :, ::2, 1::2] = here, (here + right) / 2
    images[:, :, 1::2, ::2], images[:, :, 1::2, 1::2] = (here + below) / 2, (here + right + below + across) / 4
    pair = [session.run(network.features(tf.constant(x))) for x in (small_images, images)]
    np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-4)
    assert network.resize_name(112, 112) == "bilinear (TensorFlow 2015) to 224x224"
    assert network.resize_name(224, 224) == "none"


def test_the_large_matrix_is_shared_by_devices(session, small, tmp_path, state, monkeypatch):
    import metrics.layers

    monkeypatch.setattr(metrics.layers, "_SHARED_BYTES", 8 * 49 * 10 * 4 - 1)
    network = Vgg16(source(write_torch(tmp_path / "a", state)))
    for index in range(2):
        with tf.device(f"/cpu:{index}"):
            network.features(tf.zeros([1, 3, 32, 32]))
    names = [op.name for op in tf.get_default_graph().get_operations() if op.type == "Const"]
    assert sum("classifier.0_kernel" in name for name in names) == 1
    assert sum("classifier.3_kernel" in name for name in names) == 2


def refused(call, text):
    with pytest.raises(UserError, match=text) as info:
        call()
    assert "\n" not in str(info.value)


def test_refusals(small, tmp_path, state, linear):
    vgg = source(write_torch(tmp_path / "a", state))
    negative = linear | {"lin3.model.1.weight": -linear["lin3.model.1.weight"]}
    bad = source(write_torch(tmp_path / "b", negative))
    refused(lambda: Vgg16Lpips(vgg, lambda: bad), "linear weights 3 of LPIPS are not all >= 0")
    refused(lambda: Vgg16Lpips(vgg, lambda: vgg), r"without 'lin0\.model\.1\.weight' of LPIPS")
    missing = source(write_torch(tmp_path / "c", {k: v for k, v in state.items() if k != "classifier.3.bias"}))
    refused(lambda: Vgg16(missing), r"without 'classifier\.3\.bias' of VGG16")
    network = Vgg16Lpips(vgg, lambda: source(write_torch(tmp_path / "d", linear)))
    refused(lambda: network.features(tf.zeros([1, 3, 32, 32])), "gives no features: use vgg16")
    refused(lambda: network.perceptual(tf.zeros([1, 3, 15, 32])), "16 pixels at least, found 15x32")
    assert network.weights_sha256 not in (Vgg16(vgg).weights_sha256, "") and len(network.weights_sha256) == 64
    assert (network.resize_name(64, 64), network.outputs) == ("none", ("perceptual",))


def test_linear_weights_are_fetched_where_they_are_wanted(small, tmp_path, state, monkeypatch):
    """A training that cannot have them is told as of any other weights, and trains on."""
    asked = []

    def fetch(names):
        asked.extend(names)
        raise UserError("no network")

    monkeypatch.setattr(metrics.features, "default_source", lambda slot: None)
    monkeypatch.setattr(metrics.features, "fetch", fetch)
    monkeypatch.delenv("SG2_WEIGHTS_LPIPS_LINEAR", raising=False)
    with pytest.raises(WeightsUnavailable, match="lpips_linear needs weights: no network, or set SG2_WEIGHTS_LPIPS_"):
        load_feature_network("vgg16_lpips", {"vgg16": source(write_torch(tmp_path / "a", state))})
    assert asked == [LPIPS_LINEAR]


def test_published_linear_weights(tmp_path):
    found = default_source(LPIPS_LINEAR, tmp_path)
    if found is None:
        pytest.skip("the package lpips is not installed")
    weights = metrics.vgg._linear_weights(metrics.vgg.read_weight_file(found))
    assert [w.shape for w in weights] == [(64,), (128,), (256,), (512,), (512,)]
    assert all((w >= 0).all() and w.max() > 0.1 for w in weights)
