"""Options of the networks: the default network when off, what their papers say when on, and kept in files."""

import numpy as np
import pytest

from dnnlib.tflib import pickles, tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training.config_networks import D_kwargs, DiscriminatorConfig, G_kwargs, GeneratorConfig

SMALL = dict(num_channels=3, resolution=8, fmap_base=32, fmap_max=16)


def make_G(name="G", **options):
    return Network(name, func_name="G_synthesis_stylegan2", **(SMALL | dict(dlatent_size=8) | options))


def make_D(name="D", **options):
    return Network(name, func_name="D_stylegan2", **(SMALL | options))


def randomise(net, seed=0):
    """Values of the variables that training would have moved: noise strengths and biases."""
    rng = np.random.RandomState(seed)
    moved = [v for n, v in net.vars.items() if n.endswith(("bias", "noise_strength"))]
    tfutil.set_vars({v: np.float32(0.3 * rng.randn(*v.shape.as_list())) for v in moved})


def copy(source, net):
    """Every variable that both have."""
    common = [n for n in source.vars if n in net.vars]
    values = tfutil.run([source.vars[n] for n in common])
    tfutil.set_vars({net.vars[n]: value for n, value in zip(common, values, strict=True)})


def draw(net, count=3, seed=0):
    dlatents = np.random.RandomState(seed).randn(count, *net.input_shape[1:]).astype(np.float32)
    return net.run(dlatents, randomize_noise=False)


def score(net, count=4, seed=0):
    images = np.random.RandomState(seed).randn(count, *net.input_shape[1:]).astype(np.float32)
    return net.run(images, None)


def through_a_file(net, path):
    """The network, written and read again in a graph of its own, applied by the function returned."""
    pickles.save(net, path)

    def apply(function):
        with tf.Graph().as_default(), tfutil.create_session():
            loaded = pickles.load(str(path))
            assert loaded.static_kwargs == net.static_kwargs
            return function(loaded)

    return apply


def test_defaults_have_the_published_variables(session):
    names = set(make_G().vars) | set(make_D().vars)
    assert not [n for n in names if "Attention" in n or n.endswith("_sn") or "4x4/Conv0_up" in n]


def test_noconst_replaces_the_constant_and_nothing_else(session):
    const, noconst = make_G(), make_G("N", noconst=True)
    gone = set(const.vars) - set(noconst.vars)
    new = {n: noconst.vars[n].shape.as_list() for n in set(noconst.vars) - set(const.vars)}
    assert gone == {"4x4/Const/const"}
    start = "4x4/"
    assert new == {
        start + "Dense0/weight": [8, 16 * 4],
        start + "Dense0/bias": [16 * 4],
        start + "Conv0_up/weight": [3, 3, 16, 16],
        start + "Conv0_up/mod_weight": [8, 16],
        start + "Conv0_up/mod_bias": [16],
        start + "Conv0_up/noise_strength": [],
        start + "Conv0_up/bias": [16],
    }
    kept = set(const.vars) - gone
    assert all(const.vars[n].shape == noconst.vars[n].shape for n in kept)


def test_the_start_of_noconst_depends_on_w(session, tmp_path):
    """With every later style at zero, a constant start gives the same image for all w, noconst does not."""
    images = {}
    for name, noconst in (("Gc", False), ("Gn", True)):
        net = make_G(name, noconst=noconst)
        later = [v for n, v in net.vars.items() if n.endswith("mod_weight")]
        tfutil.set_vars({v: np.zeros(v.shape.as_list()) for v in later})
        images[name] = draw(net)
    assert np.ptp(images["Gc"], axis=0).max() < 1e-5
    assert np.ptp(images["Gn"], axis=0).max() > 1e-2


def test_without_demodulation_styles_scale_what_is_drawn(session, tmp_path):
    """Styles of the last two convolutions times 2: demodulated, nothing changes; else they return 4 times as much.

    Without noise and biases, images are proportional to what the last block returns.
    """
    images = {}
    for demodulate in (True, False):
        net = make_G(f"G{demodulate}", demodulate=demodulate, use_noise=False, architecture="orig")
        assert list(net.vars) == list(make_G(f"H{demodulate}", use_noise=False, architecture="orig").vars)
        last = [n for n in net.vars if n.startswith("8x8/Conv") and n.endswith(("mod_weight", "mod_bias"))]
        assert len(last) == 4
        tfutil.set_vars({net.vars[n]: np.zeros(net.vars[n].shape.as_list()) for n in last})
        images[demodulate, 1] = draw(net)
        biases = [n for n in last if n.endswith("bias")]  # styles are this plus 1
        tfutil.set_vars({net.vars[n]: np.ones(net.vars[n].shape.as_list()) for n in biases})
        images[demodulate, 2] = draw(net)
        for fused in (True, False):
            dlatents = np.random.RandomState(0).randn(3, *net.input_shape[1:])
            drawn = net.run(dlatents, randomize_noise=False, fused_modconv=fused)
            np.testing.assert_allclose(drawn, images[demodulate, 2], rtol=1e-4, atol=1e-5)
        loaded = through_a_file(net, tmp_path / "net.pkl")(draw)
        np.testing.assert_allclose(loaded, images[demodulate, 2], rtol=1e-5, atol=1e-6)
    assert np.abs(images[True, 1]).max() > 0.1 and np.abs(images[False, 1]).max() > 0.1
    np.testing.assert_allclose(images[True, 2], images[True, 1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(images[False, 2], 4 * images[False, 1], rtol=1e-4, atol=1e-5)


def test_noconst_of_an_odd_shape_is_refused(session):
    with pytest.raises(UserError, match=r"first block of 3x5 .* data.base_shape=\[6,10\]"):
        make_G(noconst=True, base_shape=[3, 5])


@pytest.mark.parametrize(("make", "use", "resolution"), [(make_G, draw, 4), (make_D, score, 8)])
def test_attention_starts_as_identity(session, make, use, resolution):
    plain, net = make("plain"), make("attentive", attention_resolution=resolution)
    randomise(plain)
    copy(plain, net)
    layer = f"{resolution}x{resolution}/Attention/"
    maps = 16 if resolution == 4 else 8
    assert {n: net.vars[n].shape.as_list() for n in set(net.vars) - set(plain.vars)} == {
        layer + "key/weight": [maps, maps // 8],
        layer + "query/weight": [maps, maps // 8],
        layer + "value/weight": [maps, maps // 8],
        layer + "output/weight": [maps // 8, maps],
        layer + "gamma": [],
    }
    assert np.array_equal(use(plain), use(net))


@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
def test_attention_is_the_formula(session, data_format):
    from training.attention import self_attention
    from training.layers import Layout

    rng = np.random.RandomState(1)
    x = rng.randn(2, 3, 5, 16).astype(np.float32)
    layout = Layout(data_format)
    y = layout.to_nchw(self_attention(layout.from_nchw(tf.constant(x.transpose(0, 3, 1, 2))), layout))
    tfutil.run(tf.global_variables_initializer())
    weights = {v.name.split("/")[1].split(":")[0]: tfutil.run(v) for v in tf.global_variables() if "weight" in v.name}
    gamma = next(v for v in tf.global_variables() if v.name == "Attention/gamma:0")
    tfutil.set_vars({gamma: 0.7})
    expected = np.empty([2, 15, 16])
    for n in range(2):
        rows = x[n].reshape(15, 16).astype(np.float64)
        f, g, h = (rows @ weights[name] / 4 for name in ("key", "query", "value"))
        for j in range(15):
            logits = np.array([f[i] @ g[j] for i in range(15)])
            beta = np.exp(logits - logits.max())
            o = (beta / beta.sum()) @ h @ weights["output"] / np.sqrt(2)
            expected[n, j] = rows[j] + 0.7 * o
    np.testing.assert_allclose(tfutil.run(y), expected.reshape(2, 3, 5, 16).transpose(0, 3, 1, 2), atol=1e-5)


def test_attention_of_a_missing_block_is_refused(session):
    with pytest.raises(UserError, match="attention_resolution=32, expected one of 4, 8"):
        make_D(attention_resolution=32)


def test_spectral_norm_divides_by_the_largest_singular_value(session):
    from training.spectral_norm import normalised, one_iteration

    w = np.random.RandomState(2).randn(3, 3, 4, 6)
    u = tf.Variable(np.random.RandomState(3).randn(1, 6), trainable=False, use_resource=True)
    move = u.assign(one_iteration(tf.reshape(tf.constant(w), [-1, 6]), u)[1])
    got = normalised(tf.constant(w), u)
    tfutil.run(u.initializer)
    for _ in range(200):
        tfutil.run(move)
    sigma = np.linalg.svd(w.reshape(-1, 6), compute_uv=False)[0]
    np.testing.assert_allclose(tfutil.run(got), w / sigma, rtol=1e-9)


def test_gradient_of_spectral_norm_is_that_of_the_division(session):
    """At the fixed point d sigma / d w is the outer product of the singular vectors, so that they may be constants."""
    from training.spectral_norm import normalised

    rng = np.random.RandomState(4)
    w0, c = rng.randn(5, 3), rng.randn(5, 3)
    u0 = np.linalg.svd(w0)[2][:1]
    w = tf.placeholder(tf.float64, [5, 3])
    gradient = tf.gradients(tf.reduce_sum(normalised(w, tf.constant(u0)) * c), w)[0]

    def value(x):
        return np.sum(x / np.linalg.svd(x, compute_uv=False)[0] * c)

    h = 1e-6
    numeric = [(value(w0 + h * e) - value(w0 - h * e)) / (2 * h) for e in np.eye(15).reshape(15, 5, 3)]
    np.testing.assert_allclose(tfutil.run(gradient, {w: w0}), np.reshape(numeric, [5, 3]), atol=1e-7)


def test_spectral_norm_of_demodulated_weights_changes_nothing(session):
    """Paper, appendix E: demodulation undoes the scale; what is left is the effect on tRGB and the affine layers."""
    plain = make_G("G0")
    randomise(plain)
    images = {}
    for name, layers in (("conv", "*/Conv/weight,*/Conv0_up/weight,*/Conv1/weight"), ("rgb", "*/ToRGB/weight")):
        net = make_G("G_" + name, spectral_norm=layers)
        copy(plain, net)
        images[name] = draw(net)
    np.testing.assert_allclose(images["conv"], draw(plain), atol=2e-5)
    assert np.abs(images["rgb"] - draw(plain)).max() > 0.1


def test_spectral_norm_keeps_published_names_of_its_state(session):
    D = make_D(spectral_norm="*/Conv0,*/Conv1_down,4x4/Conv")
    states = {n: v.shape.as_list() for n, v in D.vars.items() if n.endswith("_sn")}
    assert states == {
        "8x8/Conv0/weight_sn": [1, 8],
        "8x8/Conv1_down/weight_sn": [1, 16],
        "4x4/Conv/weight_sn": [1, 16],
    }
    assert not set(states) & set(D.trainables)


def test_misspelt_layers_are_refused(session):
    with pytest.raises(UserError, match=r"D.spectral_norm: 'ToRBG' matches no layer; names are like 4x4/Conv"):
        make_D(spectral_norm="ToRBG")
    with pytest.raises(UserError, match="D.spectral_norm: found 'a,', expected true, false, or patterns"):
        DiscriminatorConfig(spectral_norm="a,")


def test_power_iterations_move_the_state_and_scores_follow(session):
    from training.spectral_norm import power_iterations

    D = make_D(spectral_norm=True)
    assert power_iterations({"D": make_D("P")}) is None
    move = power_iterations({"D": D})
    left, _, right = np.linalg.svd(D.get_var("4x4/Dense0/weight").astype(np.float64), full_matrices=False)
    # How fast the iteration comes near depends on how far the largest singular value is from the next: twice as large.
    gaps = 2.0 ** -np.arange(len(right))
    D.set_var("4x4/Dense0/weight", ((left * gaps) @ right).astype(np.float32))
    before = D.get_var("4x4/Dense0/weight_sn")
    for _ in range(30):
        tfutil.run(move)
    assert np.array_equal(score(D), score(D)), "scoring must not move the state"
    right = right[0]
    assert abs(D.get_var("4x4/Dense0/weight_sn")[0] @ right) == pytest.approx(1, abs=1e-3)
    assert np.abs(before - D.get_var("4x4/Dense0/weight_sn")).max() > 0.1


G_OPTIONS = [
    dict(noconst=True, spectral_norm=True),
    dict(base_shape=[6, 4], noconst=True, attention_resolution=8, architecture="resnet", spectral_norm="*/ToRGB"),
]


@pytest.mark.parametrize("options", G_OPTIONS, ids=["square", "rectangle"])
def test_generators_survive_files(session, options, tmp_path):
    net = make_G(**options)
    randomise(net)
    if "attention_resolution" in options:
        net.set_var("8x8/Attention/gamma", 0.5)
    assert np.array_equal(through_a_file(net, tmp_path / "G.pkl")(draw), draw(net))


def test_discriminators_survive_files(session, tmp_path):
    net = make_D(spectral_norm=True, attention_resolution=8, base_shape=[3, 5], mbstd_group_size=None)
    randomise(net)
    net.set_var("8x8/Attention/gamma", 0.5)
    assert np.array_equal(through_a_file(net, tmp_path / "D.pkl")(score), score(net))


def test_minibatch_stddev_of_the_whole_minibatch(session):
    """Group None is a group as large as the minibatch; no features are no layer."""
    whole, eight = make_D("D0", mbstd_group_size=None), make_D("D1", mbstd_group_size=8)
    copy(whole, eight)
    np.testing.assert_allclose(score(whole, 8), score(eight, 8), atol=1e-5)
    off = make_D("D2", mbstd_num_features=0)
    assert off.vars["4x4/Conv/weight"].shape.as_list() == [3, 3, 16, 16]
    one = score(off, 1)
    np.testing.assert_allclose(score(off, 4)[:1], one, atol=1e-5)


def test_options_are_fields_of_a_configuration():
    G = GeneratorConfig(noconst=True, spectral_norm="*/ToRGB", attention_resolution=32)
    assert G_kwargs(G) == {"noconst": True, "spectral_norm": "*/ToRGB", "attention_resolution": 32}
    D = DiscriminatorConfig(spectral_norm=True, attention_resolution=64, mbstd_group_size=None, mbstd_num_features=0)
    assert D_kwargs(D) == {
        "mbstd_group_size": None,
        "mbstd_num_features": 0,
        "spectral_norm": True,
        "attention_resolution": 64,
    }
    with pytest.raises(UserError, match="G.attention_resolution: found 12"):
        GeneratorConfig(attention_resolution=12)


def test_set_spells_the_options():
    from training.config import TrainConfig
    from training.config_io import apply_set, get_field

    config = apply_set(TrainConfig(), "G.noconst=yes", "G.spectral_norm=*/ToRGB,4x4/*", "D.spectral_norm=true")
    found = {path: get_field(config, path) for path in ("G.noconst", "G.spectral_norm", "D.spectral_norm")}
    assert found == {"G.noconst": True, "G.spectral_norm": "*/ToRGB,4x4/*", "D.spectral_norm": True}
